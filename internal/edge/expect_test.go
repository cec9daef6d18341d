package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestExpect100Continue_RFC9110_10_1_1(t *testing.T) {
	t.Run("the origin wants the body", func(t *testing.T) {
		addr := origin(t, func(c net.Conn, r *bufio.Reader) {
			req := requestAt(t, r)
			if req == nil || req.Header.Get("Expect") != "100-continue" {
				t.Error("the expectation is not passed on")
				return
			}
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			b, err := io.ReadAll(req.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
			if err != nil {
				t.Error(err)
			}
		})
		s := newStand(t, client(t), nil)
		_, port, _ := net.SplitHostPort(addr)
		c := s.dial(t)
		r := bufio.NewReader(c)
		send(t, c, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		if head := readHead(t, r); head != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("instead of 100:\n%s", head)
		}
		send(t, c, "hello")
		if head := readHead(t, r); status(head) != "200" || field(head, "Connection") != "" {
			t.Errorf("the answer:\n%s", head)
		}
	})
	t.Run("the origin refuses at once", func(t *testing.T) {
		left := make(chan int64, 1)
		addr := origin(t, func(c net.Conn, r *bufio.Reader) {
			if requestAt(t, r) == nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
			n, _ := io.Copy(io.Discard, r)
			left <- n
		})
		s := newStand(t, client(t), nil)
		_, port, _ := net.SplitHostPort(addr)
		reply := s.talk(t, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"+smuggled)
		if status(reply) != "417" || strings.Contains(reply, "100 Continue") || strings.Count(reply, "HTTP/1.1 ") != 1 {
			t.Errorf("the answer:\n%s", reply)
		}
		if n := <-left; n != 0 {
			t.Errorf("%d bytes of body went out behind the final answer", n)
		}
	})
	t.Run("what is known is passed on once, and only with a body", func(t *testing.T) {
		for fields, want := range map[string]string{
			"Expect: 100-Continue\r\nExpect: 100-continue,\r\nContent-Length: 2": "100-continue",
			"Expect: 100-continue\r\nContent-Length: 0":                          "",
			"Expect:\r\nContent-Length: 2":                                       "",
		} {
			got := make(chan string, 1)
			s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				got <- strings.Join(r.Header["Expect"], "|")
				return answer(200, nil, "")(r)
			}), nil)
			reply := s.talk(t, "POST http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+fields+"\r\n\r\nhi")
			if expect := <-got; expect != want || strings.Contains(reply, "100 Continue") != (want != "") {
				t.Errorf("%q goes out with Expect: %q; the reply:\n%s", fields, expect, reply)
			}
		}
	})
	t.Run("HTTP/1.0 knows none", func(t *testing.T) {
		got := make(chan int, 1)
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			got <- len(r.Header["Expect"])
			return answer(200, nil, "")(r)
		}), nil)
		reply := s.talk(t, "POST http://origin.test/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
		if n := <-got; n != 0 || status(reply) != "200" {
			t.Errorf("%d lines of Expect go out; the reply:\n%s", n, reply)
		}
	})
	t.Run("an unknown expectation is a 417", func(t *testing.T) {
		for _, fields := range []string{"Expect: miracles", "Expect: 100-continue, miracles", "Expect: 100-continue\r\nExpect: miracles", "Expect: 100-continue;q=1"} {
			s := newStand(t, never(t), nil)
			reply := s.talk(t, "POST http://origin.test/ HTTP/1.1\r\nHost: x\r\n"+fields+"\r\nContent-Length: 5\r\n\r\nhello"+smuggled)
			if status(reply) != "417" || field(reply, "Connection") != "close" || strings.Count(reply, "HTTP/1.1 ") != 1 {
				t.Errorf("%q:\n%s", fields, reply)
			}
		}
	})
}
