package conform

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// codedWait is how many seconds the origin leaves a connection open behind a
// body that only its end delimits; the suite's own is idle for as long.
const codedWait = 5

// Origin is the suite's server: it answers each request of a case as the case
// says, byte by byte, and logs what it was asked. It listens on loopback.
type Origin struct {
	Addr string

	listener net.Listener
	second   time.Duration // a second of the data, less in tests

	mu    sync.Mutex
	runs  map[string]*run
	conns map[net.Conn]bool // nil once closed
}

// run is one case that is being played.
type run struct {
	c *Case

	mu  sync.Mutex
	log []entry
	// dates holds what an offset was resolved to, by request and field: who asks
	// for the same once more gets the same dates.
	dates map[[2]int]string
}

// entry is one request in the origin's log.
type entry struct {
	number     int
	method     string
	header     head
	remembered head // of the response
}

// StartOrigin listens on a free loopback port. Close must follow.
func StartOrigin() (*Origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &Origin{Addr: l.Addr().String(), listener: l, second: time.Second, runs: map[string]*run{}, conns: map[net.Conn]bool{}}
	go o.accept()
	return o, nil
}

// Close ends all connections.
func (o *Origin) Close() {
	o.listener.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.Close()
	}
	o.conns = nil
}

// expect makes the origin play the case for requests below /test/id.
func (o *Origin) expect(id string, c *Case) *run {
	r := &run{c: c, dates: map[[2]int]string{}}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs[id] = r
	return r
}

func (o *Origin) find(id string) *run {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs[id]
}

// entries returns what was logged so far.
func (r *run) entries() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]entry(nil), r.log...)
}

func (o *Origin) accept() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		open := o.conns != nil
		if open {
			o.conns[c] = true
		}
		o.mu.Unlock()
		if !open {
			c.Close()
			return
		}
		go o.serve(c)
	}
}

// serve answers the requests of one connection. It stays open as long as the
// proxy likes, unlike the suite's, whose idle timeout of five seconds may hit
// the moment that the proxy sends.
func (o *Origin) serve(c net.Conn) {
	defer func() {
		c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	for {
		q, err := readRequest(r)
		if err != nil {
			return
		}
		a := o.answer(q, func(b []byte) { _, _ = c.Write(b) })
		if a.disconnect {
			return
		}
		if _, err := c.Write(a.bytes); err != nil || closes(q.header) {
			return
		}
		if a.untilClose {
			time.Sleep(codedWait * o.second)
			return
		}
	}
}

// asked is a request that came in.
type asked struct {
	method, target string
	header         head
}

func readRequest(r *bufio.Reader) (asked, error) {
	start, h, err := readHead(r)
	if err != nil {
		return asked{}, err
	}
	words := strings.Split(start, " ")
	if len(words) != 3 {
		return asked{}, fmt.Errorf("%q is no request line", start)
	}
	_, err = readBody(r, h, false)
	return asked{words[0], words[1], h}, err
}

// closes reports whether the request is the last on its connection.
func closes(h head) bool { return strings.EqualFold(h.value("Connection"), "close") }

// reply is what goes back.
type reply struct {
	bytes      []byte
	disconnect bool // instead of them
	untilClose bool // the close delimits them
}

// answer finds the case and answers as its request says; interim responses
// are sent at once.
func (o *Origin) answer(q asked, send func([]byte)) reply {
	u, err := url.Parse(q.target)
	if err != nil {
		return refuse("bad target")
	}
	if u.Path == probePath {
		body := q.header.value("Via")
		return reply{bytes: append(encode("HTTP/1.1 200 OK", head{{"Content-Length", strconv.Itoa(len(body))}, {"Cache-Control", "no-store"}}), body...)}
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/test/"), "/")
	r := o.find(id)
	if r == nil {
		return refuse("no such case")
	}
	number, hasNumber := q.header.number("Req-Num")
	r.mu.Lock()
	n := number
	if !hasNumber {
		n = len(r.log) + 1
	}
	r.mu.Unlock()
	if n < 1 || n > len(r.c.Requests) {
		return refuse("no such request")
	}
	cfg := &r.c.Requests[n-1]
	time.Sleep(time.Duration(cfg.ResponsePause) * o.second)
	for _, i := range cfg.Interim {
		var h head
		for _, f := range i.Header {
			h.add(f.Name, f.Value)
		}
		send(encode(fmt.Sprintf("HTTP/1.1 %d %s", i.Code, interimPhrases[i.Code]), h))
	}
	return r.respond(id, n, q)
}

var interimPhrases = map[int]string{102: "Processing", 103: "Early Hints"}

func refuse(why string) reply {
	return reply{bytes: append(encode("HTTP/1.1 409 Conflict", head{{"Content-Length", strconv.Itoa(len(why))}}), why...)}
}
