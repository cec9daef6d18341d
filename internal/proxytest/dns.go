package proxytest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// NameServer is a DNS server on loopback, over UDP and TCP, whose answers a
// test sets and changes. What is not set does not exist.
type NameServer struct {
	Addr string

	mu      sync.Mutex
	answers map[string]DNSAnswer
	asked   map[string]int
}

// DNSAnswer is what a NameServer says of a name and a type.
type DNSAnswer struct {
	TTL       uint32
	Data      []string // addresses, or of SRV "priority weight port target."
	Alias     string   // the name, with its final dot, that the records are of
	Code      dnsmessage.RCode
	Silent    bool // no answer
	Truncated bool // over UDP
	Forged    bool // over UDP one with another ID comes first
}

// StartNameServer starts a NameServer for the time of the test.
func StartNameServer(t testing.TB) *NameServer {
	t.Helper()
	s := &NameServer{answers: map[string]DNSAnswer{}, asked: map[string]int{}}
	for range 20 { // until a port is free for both
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err != nil {
			udp.Close()
			continue
		}
		t.Cleanup(func() { udp.Close(); tcp.Close() })
		s.Addr = udp.LocalAddr().String()
		go s.serveUDP(udp)
		go s.serveTCP(tcp)
		return s
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil
}

// Set makes a the answer for the name, without final dot, and the type "A",
// "AAAA" or "SRV".
func (s *NameServer) Set(name, kind string, a DNSAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name+" "+kind] = a
}

// Asked returns how often the server was asked for the name and the type.
func (s *NameServer) Asked(name, kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+" "+kind]
}

func (s *NameServer) serveUDP(c net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		for _, out := range s.answer(b[:n], true) {
			_, _ = c.WriteTo(out, from)
		}
	}
}

func (s *NameServer) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			for _, out := range s.answer(b, false) {
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			}
		}()
	}
}

// answer returns the messages that answer the query.
func (s *NameServer) answer(query []byte, udp bool) (out [][]byte) {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	key := name + " " + strings.TrimPrefix(q.Type.String(), "Type")
	s.mu.Lock()
	a, known := s.answers[key]
	s.asked[key]++
	if !known {
		a.Code = dnsmessage.RCodeNameError
		for other := range s.answers {
			if strings.HasPrefix(other, name+" ") {
				a.Code = dnsmessage.RCodeSuccess
			}
		}
	}
	s.mu.Unlock()
	if a.Silent {
		return nil
	}
	m.Response, m.RCode, m.Additionals = true, a.Code, nil
	if a.Truncated && udp {
		m.Truncated = true
	} else {
		m.Answers = a.resources(q)
	}
	pack := func(m dnsmessage.Message) {
		if b, err := m.Pack(); err == nil {
			out = append(out, b)
		}
	}
	if a.Forged && udp {
		forged := m
		forged.ID++
		forged.Answers = DNSAnswer{Data: []string{"203.0.113.66"}}.resources(q)
		pack(forged)
	}
	pack(m)
	return out
}

func (a DNSAnswer) resources(q dnsmessage.Question) (out []dnsmessage.Resource) {
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: a.TTL}
	if a.Alias != "" {
		to := dnsmessage.MustNewName(a.Alias)
		out = append(out, dnsmessage.Resource{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: to}})
		h.Name = to
	}
	for _, d := range a.Data {
		if q.Type == dnsmessage.TypeSRV {
			var r dnsmessage.SRVResource
			var target string
			if _, err := fmt.Sscan(d, &r.Priority, &r.Weight, &r.Port, &target); err != nil {
				panic(err)
			}
			r.Target = dnsmessage.MustNewName(target)
			out = append(out, dnsmessage.Resource{Header: h, Body: &r})
			continue
		}
		if addr := netip.MustParseAddr(d); addr.Is4() {
			out = append(out, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}})
		} else {
			out = append(out, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return out
}
