package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsClient asks name servers for records with their TTLs, which the standard
// library's resolver does not tell.
type dnsClient struct {
	server string // "" for those of the system
}

const (
	dnsTimeout = 2 * time.Second // for one server, once
	dnsRounds  = 2               // over all servers
	dnsPayload = 1232            // of UDP, as EDNS says; more comes over TCP
	resolvConf = "/etc/resolv.conf"
)

// errNoRecords is a name server's word that there are no such records, which
// noRecords says in full.
var errNoRecords = errors.New("there are no such records")

type noRecords string

func (n noRecords) Error() string     { return string(n) }
func (n noRecords) Is(err error) bool { return err == errNoRecords }

// records is what a name server answered, never nothing.
type records struct {
	addrs []netip.Addr
	srv   []dnsmessage.SRVResource
	ttl   time.Duration // the least of all
}

// ask returns the records of the name. Its error is errNoRecords only on a
// server's word.
func (d dnsClient) ask(ctx context.Context, name string, kind dnsmessage.Type) (records, error) {
	servers := []string{d.server}
	if d.server == "" {
		servers = systemServers(resolvConf)
	}
	full, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return records{}, err
	}
	q := dnsmessage.Question{Name: full, Type: kind, Class: dnsmessage.ClassINET}
	for range dnsRounds {
		for _, server := range servers {
			var r records
			if r, err = askServer(ctx, server, q); err == nil || errors.Is(err, errNoRecords) {
				return r, err
			}
			if ctx.Err() != nil {
				return records{}, err
			}
		}
	}
	return records{}, err
}

// systemServers reads the name servers from the file, at each look-up: it may
// change. Without any it is this host's.
func systemServers(file string) (servers []string) {
	text, _ := os.ReadFile(file)
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, net.JoinHostPort(f[1], "53"))
		}
	}
	if len(servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	return servers
}

// askServer asks one server, over TCP where its answer has no room in UDP.
func askServer(ctx context.Context, server string, q dnsmessage.Question) (records, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	id := uint16(rand.Uint32())
	query, err := encodeQuery(id, q)
	if err != nil {
		return records{}, err
	}
	r, err := exchangeDNS(ctx, "udp", server, id, query, q)
	if errors.Is(err, errTruncated) {
		r, err = exchangeDNS(ctx, "tcp", server, id, query, q)
	}
	return r, serverError(server, err)
}

// serverError names the server, and no port of this end: the same failure reads
// the same each time.
func serverError(server string, err error) error {
	var timeout net.Error
	var op *net.OpError
	switch {
	case err == nil || errors.Is(err, errNoRecords):
		return err
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the name server %s did not answer in time", server)
	case errors.As(err, &op):
		err = op.Err
	}
	return fmt.Errorf("the name server %s: %w", server, err)
}

func encodeQuery(id uint16, q dnsmessage.Question) ([]byte, error) {
	var edns dnsmessage.ResourceHeader
	if err := edns.SetEDNS0(dnsPayload, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{q},
		Additionals: []dnsmessage.Resource{{Header: edns, Body: &dnsmessage.OPTResource{}}},
	}
	return m.Pack()
}

// exchangeDNS sends the query and waits for what answers it.
func exchangeDNS(ctx context.Context, network, server string, id uint16, query []byte, q dnsmessage.Question) (records, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return records{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := c.Write(query); err != nil {
		return records{}, err
	}
	in := bufio.NewReader(c)
	buf := make([]byte, 1<<16)
	for {
		var n int
		if network == "tcp" {
			n, err = readFrame(in, buf)
		} else {
			n, err = c.Read(buf)
		}
		if err != nil {
			return records{}, err
		}
		r, err := readRecords(buf[:n], id, q)
		if errors.Is(err, errNotOurs) && network == "udp" {
			continue // anybody may have sent it
		}
		return r, err
	}
}

// readFrame reads a message behind its length (RFC 1035, Section 4.2.2).
func readFrame(r io.Reader, buf []byte) (int, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, err
	}
	return io.ReadFull(r, buf[:binary.BigEndian.Uint16(size[:])])
}

var (
	errNotOurs   = errors.New("it answers another question")
	errTruncated = errors.New("the answer is cut off")
)

// readRecords reads what answers the question. Names that stand for others
// (CNAME) have been followed by the server.
func readRecords(message []byte, id uint16, q dnsmessage.Question) (records, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil {
		return records{}, errNotOurs
	}
	asked, err := p.AllQuestions()
	if err != nil || !h.Response || h.ID != id || len(asked) != 1 || asked[0].Type != q.Type || asked[0].Class != q.Class ||
		!strings.EqualFold(asked[0].Name.String(), q.Name.String()) {
		return records{}, errNotOurs
	}
	switch {
	case h.Truncated:
		return records{}, errTruncated
	case h.RCode == dnsmessage.RCodeNameError:
		return records{}, noRecords("no name server knows " + strings.TrimSuffix(q.Name.String(), "."))
	case h.RCode != dnsmessage.RCodeSuccess:
		return records{}, fmt.Errorf("it answers %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	answers, err := p.AllAnswers()
	if err != nil {
		return records{}, fmt.Errorf("its answer cannot be read: %w", err)
	}
	return collect(answers, q)
}

func collect(answers []dnsmessage.Resource, q dnsmessage.Question) (records, error) {
	out := records{ttl: time.Duration(1<<31-1) * time.Second}
	for _, a := range answers {
		ttl := time.Duration(a.Header.TTL) * time.Second
		if a.Header.TTL >= 1<<31 { // RFC 2181, Section 8
			ttl = 0
		}
		out.ttl = min(out.ttl, ttl)
		if a.Header.Type != q.Type {
			continue
		}
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			out.addrs = append(out.addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			out.addrs = append(out.addrs, netip.AddrFrom16(body.AAAA).Unmap())
		case *dnsmessage.SRVResource:
			out.srv = append(out.srv, *body)
		}
	}
	if len(out.addrs) == 0 && len(out.srv) == 0 {
		return records{}, noRecords(strings.TrimSuffix(q.Name.String(), ".") + " has no record of type " + strings.TrimPrefix(q.Type.String(), "Type"))
	}
	return out, nil
}
