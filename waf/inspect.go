package waf

import (
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"fwdproxy/internal/fault"
)

// Request is what is looked at.
type Request struct {
	*http.Request // as net/http read it
	ID            string
	Client        netip.AddrPort
	Listen        netip.AddrPort
	Body          io.Reader // nil when there is none
	Block         bool      // the site refuses what the rules are against
}

// Finding is what the rules say about a request.
type Finding struct {
	Against bool   // the rules are against it
	Rules   []int  // that matched, without those that set up and add up; at most 64
	Message string // of the most severe of them
	Score   int    // the anomaly score
}

const (
	maxRules   = 64
	maxMessage = 160
)

// heavy is the length of a body from which looking at it takes so long that it
// may be done only as often at once as there are processors; everything else
// goes on beside it.
const heavy = 8 << 10

var slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))

// Inspect plays the rules. It reads of the body what they are to see, and
// returns it: the next hop gets it, and then what is left in the body. The
// error is that of the body, a *fault.Error of its being too large above all.
func (f *Firewall) Inspect(q Request) (_ Finding, head []byte, err error) {
	tx := f.waf.NewTransactionWithID(q.ID)
	// What fails is a temporary file that cannot be removed.
	defer func() { _ = tx.Close() }()
	tx.ProcessConnection(q.Client.Addr().String(), int(q.Client.Port()), q.Listen.Addr().String(), int(q.Listen.Port()))
	uri := q.RequestURI
	if uri == "" || q.URL.IsAbs() {
		uri = q.URL.RequestURI()
	}
	tx.ProcessURI(uri, q.Method, q.Proto)
	for name, lines := range q.Header {
		for _, line := range lines {
			tx.AddRequestHeader(name, line)
		}
	}
	if q.Host != "" {
		tx.AddRequestHeader("Host", q.Host)
		tx.SetServerName(q.Host)
	}
	for _, coding := range q.TransferEncoding {
		tx.AddRequestHeader("Transfer-Encoding", coding)
	}
	if tx.ProcessRequestHeaders() == nil && q.Body != nil && tx.IsRequestBodyAccessible() {
		if head, err = f.head(q); err != nil {
			return finding(tx), head, err
		}
		if len(head) > heavy {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-q.Context().Done():
				return finding(tx), head, q.Context().Err()
			}
		}
		if _, _, err := tx.WriteRequestBody(head); err != nil {
			return finding(tx), head, broken(err)
		}
	}
	if !tx.IsInterrupted() {
		if _, err := tx.ProcessRequestBody(); err != nil {
			return finding(tx), head, broken(err)
		}
	}
	return finding(tx), head, nil
}

// broken is a failure to look, after which the request must not pass.
func broken(err error) error {
	return fault.New(fault.InternalError, "the request could not be looked at", err)
}

// head reads what is looked at of a body, and one byte more of a larger one.
func (f *Firewall) head(q Request) ([]byte, error) {
	strict := q.Block && !f.pass
	if strict && q.ContentLength > int64(f.limit) {
		return nil, tooLarge()
	}
	size := f.limit + 1
	if q.ContentLength >= 0 {
		size = min(size, int(min(q.ContentLength, int64(size)))+1)
	} else {
		size = min(size, 4<<10)
	}
	head := make([]byte, 0, size)
	for len(head) <= f.limit {
		if len(head) == cap(head) {
			head = append(head, 0)[:len(head)]
		}
		n, err := q.Body.Read(head[len(head):min(cap(head), f.limit+1)])
		head = head[:len(head)+n]
		if err == io.EOF {
			return head, nil
		}
		if err != nil {
			return head, err
		}
	}
	if strict {
		return head, tooLarge()
	}
	return head, nil
}

func tooLarge() error {
	return &fault.Error{Kind: fault.RequestError, Status: http.StatusRequestEntityTooLarge, Rule: "reverse.waf.body_limit",
		Details: "the request's body is larger than reverse.waf.body_limit allows"}
}

func finding(tx types.Transaction) Finding {
	out, worst := Finding{Against: tx.IsInterrupted()}, types.RuleSeverityDebug
	for _, m := range tx.MatchedRules() {
		id := m.Rule().ID()
		if m.Message() == "" || counts(id) {
			continue
		}
		if s := m.Rule().Severity(); out.Message == "" || s.Int() >= 0 && s < worst {
			out.Message, worst = short(m.Message()), s
		}
		if len(out.Rules) < maxRules {
			out.Rules = append(out.Rules, id)
		}
	}
	if it := tx.Interruption(); it != nil && !counts(it.RuleID) && !slices.Contains(out.Rules, it.RuleID) {
		out.Rules = append(out.Rules, it.RuleID) // of somebody's own, without a message
	}
	if state, ok := tx.(plugintypes.TransactionState); ok {
		for _, v := range state.Variables().TX().Get("blocking_inbound_anomaly_score") {
			out.Score = atoi(v)
		}
	}
	return out
}

// counts reports whether the rule sets up, or adds up what others found.
func counts(id int) bool { return id >= 901000 && id < 902000 || id >= 949000 && id < 950000 }

func atoi(s string) int {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > 1<<20 {
			return n
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func short(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage]
	}
	return strings.ToValidUTF8(s, "?")
}
