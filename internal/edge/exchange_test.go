package edge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/cache"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/unit"
)

// get is a request for the origin's root with further fields, each with its
// CRLF, that ends the connection.
func get(fields string) string {
	return "GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n" + fields + "\r\n"
}

func TestARequestGoesOutWithoutWhatConcernsThisConnectionOnly_RFC9110_7_6_1(t *testing.T) {
	got := make(chan string, 1)
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		got <- r.Method + " " + r.URL.String() + " " + r.Host + " " + sortedFields(r.Header)
		return answer(200, nil, "")(r)
	}), nil)
	s.talk(t, "GET http://Origin.TEST:80/a%2fb?x=%20y HTTP/1.1\r\nHost: elsewhere.test\r\n"+
		"Connection: close, X-Secret, Cache-Control, via, Authorization\r\nX-Secret: 1\r\nAuthorization: Basic eA==\r\nCache-Control: no-store\r\n"+
		"Via: 1.0 a\r\nVia: 1.1 b\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n"+
		"Upgrade: h2c\r\nHTTP2-Settings: AAMA\r\nX-Kept: 2\r\n\r\n")
	want := "GET http://origin.test/a%2fb?x=%20y origin.test Cache-Control=no-store Via=1.0 a, 1.1 b, 1.1 fwdproxy X-Kept=2"
	if out := <-got; out != want {
		t.Errorf("went out as %s\nwant        %s", out, want)
	}
}

func TestAnAnswerIsPassedOnAsItIs(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		proto  string
		res    roundTrip
		want   string // the whole reply but its Date
	}{
		"no type is guessed, a Date is added": {"GET", "HTTP/1.1",
			answer(200, http.Header{"Content-Length": {"15"}}, "<html>no</html>"),
			"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nVia: 1.1 fwdproxy\r\nConnection: close\r\n\r\n<html>no</html>"},
		"length unknown": {"GET", "HTTP/1.1",
			answer(200, http.Header{"Content-Type": {"a/b"}, "Via": {"1.0 cdn"}}, "abc"),
			"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nVia: 1.0 cdn, 1.1 fwdproxy\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		"length unknown, to HTTP/1.0": {"GET", "HTTP/1.0",
			answer(200, http.Header{"Content-Type": {"a/b"}}, "abc"),
			"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: a/b\r\nVia: 1.1 fwdproxy\r\n\r\nabc"},
		"HEAD keeps the length of what it is about": {"HEAD", "HTTP/1.1",
			answer(200, http.Header{"Content-Length": {"15"}, "Content-Type": {"a/b"}}, ""),
			"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: a/b\r\nVia: 1.1 fwdproxy\r\nConnection: close\r\n\r\n"},
		"HEAD without length": {"HEAD", "HTTP/1.1",
			answer(200, nil, ""),
			"HTTP/1.1 200 OK\r\nVia: 1.1 fwdproxy\r\nConnection: close\r\n\r\n"},
		"204": {"GET", "HTTP/1.1",
			answer(204, http.Header{"X-A": {"1", "2"}}, ""),
			"HTTP/1.1 204 No Content\r\nVia: 1.1 fwdproxy\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\n\r\n"},
		"304 keeps its validators": {"GET", "HTTP/1.1",
			answer(304, http.Header{"Etag": {`"1"`}}, ""),
			"HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\nVia: 1.1 fwdproxy\r\nConnection: close\r\n\r\n"},
		"an unknown status": {"GET", "HTTP/1.1",
			answer(299, http.Header{"Content-Length": {"0"}}, ""),
			"HTTP/1.1 299 status code 299\r\nContent-Length: 0\r\nVia: 1.1 fwdproxy\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, tt.res, nil)
			reply := s.talk(t, tt.method+" http://origin.test/ "+tt.proto+"\r\nHost: origin.test\r\nConnection: close\r\n\r\n")
			date := field(reply, "Date")
			if _, err := http.ParseTime(date); err != nil {
				t.Errorf("Date %q", date)
			}
			if got := strings.Replace(reply, "Date: "+date+"\r\n", "", 1); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if r := s.record(t); r.Error != "" || r.Verdict != "allow" || r.Rule != "all" || r.Tag != accesslog.TagMiss {
				t.Errorf("logged: %+v", r)
			}
		})
	}
}

func TestTheOriginsDateStays_RFC9110_6_6_1(t *testing.T) {
	const date = "Tue, 15 Nov 1994 08:12:31 GMT"
	s := newStand(t, answer(200, http.Header{"Date": {date}, "Content-Length": {"0"}}, ""), nil)
	if got := field(s.talk(t, get("")), "Date"); got != date {
		t.Errorf("Date %q", got)
	}
}

func TestTrailersArePassedOn_RFC9110_6_5(t *testing.T) {
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		res, err := answer(200, nil, "abc")(r)
		res.Trailer = http.Header{"X-Sum": {"1"}, "Content-Length": {"99"}}
		return res, err
	}), nil)
	reply := s.talk(t, get(""))
	if !strings.HasSuffix(reply, "\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") {
		t.Errorf("the reply:\n%s", reply)
	}
}

func TestAStreamsHeadDoesNotWaitForItsFirstPiece(t *testing.T) {
	src, feed := io.Pipe()
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		res, err := answer(200, nil, "")(r)
		res.Body = src
		return res, err
	}), nil)
	c := s.dial(t)
	r := bufio.NewReader(c)
	send(t, c, get(""))
	if head := readHead(t, r); status(head) != "200" {
		t.Errorf("the head:\n%s", head)
	}
	for _, piece := range []string{"a", "b"} {
		if _, err := io.WriteString(feed, piece); err != nil {
			t.Fatal(err)
		}
		line, err := r.ReadString('\n')
		data, err2 := r.ReadString('\n')
		if line != "1\r\n" || data != piece+"\r\n" {
			t.Errorf("piece %q came as %q %q, %v %v", piece, line, data, err, err2)
		}
	}
	feed.Close()
}

func TestABrokenAnswerBreaksTheClientsConnection_RFC9112_8(t *testing.T) {
	for name, tt := range map[string]struct{ origin, proto, end string }{
		"chunks cut":                      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "HTTP/1.1", "3\r\nabc\r\n"},
		"malformed chunk":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "HTTP/1.1", "3\r\nabc\r\n"},
		"short of its length":             {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1", "\r\n\r\nabc"},
		"nothing of its length":           {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "HTTP/1.1", ""},
		"chunks cut, to HTTP/1.0":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "HTTP/1.0", "\r\n\r\nabc"},
		"chunks cut at once, to HTTP/1.0": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0", "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			addr := origin(t, func(c net.Conn, r *bufio.Reader) {
				if requestAt(t, r) != nil {
					io.WriteString(c, tt.origin)
					<-gate // so that a reset does not overtake what came before it
				}
			})
			s := newStand(t, client(t), nil)
			_, port, _ := net.SplitHostPort(addr)
			c := s.dial(t)
			send(t, c, "GET http://origin.test:"+port+"/ "+tt.proto+"\r\nHost: x\r\n\r\n")
			r := bufio.NewReader(c)
			var reply string
			if tt.end != "" {
				reply = readHead(t, r)
				for !strings.HasSuffix(reply, tt.end) {
					b, err := r.ReadByte()
					if err != nil {
						t.Fatalf("%v behind %q", err, reply)
					}
					reply += string(b)
				}
			}
			close(gate)
			more, err := io.ReadAll(r)
			if tt.end != "" && len(more) > 0 {
				t.Errorf("behind what came: %q", more)
			}
			if strings.HasSuffix(string(more), "0\r\n\r\n") {
				t.Error("the answer looks complete")
			}
			// Where the end of the connection is the end of the body, only a reset tells.
			if tt.proto == "HTTP/1.0" && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection ends with %v, as if the answer were whole", err)
			}
			if rec := s.record(t); rec.Error != string(fault.ResponseIncomplete) || rec.ErrorCause == "" || rec.Status != 200 {
				t.Errorf("logged: %+v", rec)
			}
		})
	}
}

func TestAClientThatLeavesIsNotTheOriginsFault(t *testing.T) {
	t.Run("in the middle of an answer", func(t *testing.T) {
		addr := origin(t, func(c net.Conn, r *bufio.Reader) {
			if requestAt(t, r) != nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
				io.Copy(io.Discard, r) // until the proxy gives up
			}
		})
		s := newStand(t, client(t), nil)
		_, port, _ := net.SplitHostPort(addr)
		c := s.dial(t)
		send(t, c, "GET http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, bufio.NewReader(c))
		c.Close()
		if rec := s.record(t); rec.Error != clientGone || rec.Status != 200 {
			t.Errorf("logged: %+v", rec)
		}
	})
	t.Run("without reading", func(t *testing.T) {
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			res, err := answer(200, nil, "")(r)
			res.Body = io.NopCloser(io.LimitReader(zeros{}, 1<<40))
			return res, err
		}), func(d *Door) { d.Limits.WriteTimeout = unit.Duration(100 * time.Millisecond) })
		c := s.dial(t)
		send(t, c, get(""))
		rec := s.record(t)
		if rec.Error != clientGone || rec.BytesOut == 0 {
			t.Errorf("logged: %+v", rec)
		}
		c.Close()
	})
	t.Run("before the answer", func(t *testing.T) {
		asked := make(chan struct{})
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			close(asked)
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), nil)
		c := s.dial(t)
		send(t, c, "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
		<-asked
		c.Close()
		if rec := s.record(t); rec.Status != statusClientGone || rec.Error != string(fault.ConnectionTerminated) {
			t.Errorf("logged: %+v", rec)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestNobodyWaitsLongToWriteToAClientThatLeft(t *testing.T) {
	s := newStand(t, roundTrip(func(*http.Request) (*http.Response, error) { return nil, context.Canceled }), nil)
	reply := s.talk(t, "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\n\r\n"+smuggled)
	if status(reply) != "499" || field(reply, "Connection") != "close" {
		t.Errorf("the reply:\n%s", reply)
	}
	x := &Exchange{door: s.door, r: &http.Request{}, w: &Writer{timeout: time.Hour}}
	x.Refusal(context.Canceled)
	if x.w.timeout > goneTimeout {
		t.Errorf("a write may take %v", x.w.timeout)
	}
}

func TestAPanicIsAnsweredOnceAndLoggedOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		next   roundTrip
		method string
		status string
	}{
		"before the answer":           {func(*http.Request) (*http.Response, error) { panic("a bug") }, "GET", "500"},
		"before the answer to a HEAD": {func(*http.Request) (*http.Response, error) { panic("a bug") }, "HEAD", "500"},
		"with a body to come":         {func(*http.Request) (*http.Response, error) { panic("a bug") }, "POST", "500"},
		"in the answer": {func(r *http.Request) (*http.Response, error) {
			res, err := answer(200, nil, "")(r)
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), panicReader{}))
			return res, err
		}, "GET", "200"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, tt.next, nil)
			head := tt.method + " http://origin.test/ HTTP/1.1\r\nHost: x\r\n"
			if tt.method == "POST" {
				head += "Content-Length: 1000\r\n"
			}
			reply := s.talk(t, head+"\r\n"+smuggled)
			if status(reply) != tt.status || strings.HasSuffix(reply, "0\r\n\r\n") || strings.Contains(reply, "a bug") || strings.Count(reply, "HTTP/1.1 ") != 1 {
				t.Errorf("the reply:\n%s", reply)
			}
			rec := s.record(t)
			if rec.Error != string(fault.InternalError) || !strings.Contains(rec.ErrorCause, "a bug") || !strings.Contains(rec.ErrorCause, "exchange_test.go") {
				t.Errorf("logged: %+v", rec)
			}
			select {
			case r := <-s.records:
				t.Errorf("a second record: %+v", r)
			default:
			}
		})
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("a bug") }

func TestInterimAnswersArePassedOn_RFC9110_15_2(t *testing.T) {
	hints := roundTrip(func(r *http.Request) (*http.Response, error) {
		trace := httptrace.ContextClientTrace(r.Context())
		for _, code := range []int{100, 102, 103, 101, 200} {
			if trace == nil || trace.Got1xxResponse == nil {
				break
			}
			h := textproto.MIMEHeader{"Link": {"</a>"}, "Connection": {"x-hop"}, "X-Hop": {"1"}, "Keep-Alive": {"5"}}
			if err := trace.Got1xxResponse(code, h); err != nil {
				return nil, err
			}
		}
		return answer(200, http.Header{"Content-Length": {"2"}}, "ok")(r)
	})
	s := newStand(t, hints, nil)
	reply := s.talk(t, get(""))
	interim, final, ok := strings.Cut(reply, "HTTP/1.1 200 OK\r\n")
	if want := "HTTP/1.1 102 Processing\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"; interim != want || !ok {
		t.Errorf("interim answers %q\nwant            %q", interim, want)
	}
	if strings.Contains(final, "Link") || strings.Contains(final, "X-Hop") {
		t.Errorf("an interim answer's fields stick to the final one:\n%s", final)
	}
	if old := s.talk(t, "GET http://origin.test/ HTTP/1.0\r\n\r\n"); status(old) != "200" {
		t.Errorf("HTTP/1.0 knows no interim answer, and gets:\n%s", old)
	}
	// 100 of net/http's could run into it.
	expecting := s.talk(t, "POST http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
	if interim, _, _ := strings.Cut(expecting, "HTTP/1.1 200 OK\r\n"); interim != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Errorf("with a body that waits for 100: %q", interim)
	}
}

func TestMaxForwardsAndTRACE_RFC9110_7_6_2(t *testing.T) {
	for name, tt := range map[string]struct{ method, fields, status, allow, seen string }{
		"none":            {"OPTIONS", "", "200", "", ""},
		"counted down":    {"OPTIONS", "Max-Forwards: 7\r\n", "200", "", "6"},
		"the last":        {"OPTIONS", "Max-Forwards: 0\r\nCookie: secret=1\r\n", "200", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT", "never"},
		"nominated away":  {"OPTIONS", "Max-Forwards: 0\r\nConnection: max-forwards\r\n", "200", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT", "never"},
		"no number":       {"OPTIONS", "Max-Forwards: -1\r\n", "400", "", "never"},
		"too large":       {"OPTIONS", "Max-Forwards: 99999999999\r\n", "400", "", "never"},
		"not of a GET":    {"GET", "Max-Forwards: 0\r\n", "200", "", "0"},
		"TRACE":           {"TRACE", "Cookie: secret=1\r\n", "405", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT", "never"},
		"TRACE, the last": {"TRACE", "Max-Forwards: 0\r\nCookie: secret=1\r\n", "405", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT", "never"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := "never"
			s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				seen = r.Header.Get("Max-Forwards")
				return answer(200, http.Header{"Content-Length": {"0"}}, "")(r)
			}), nil)
			reply := s.talk(t, tt.method+" http://origin.test/ HTTP/1.1\r\nHost: x\r\n"+tt.fields+"Connection: close\r\n\r\n")
			s.record(t)
			if status(reply) != tt.status || field(reply, "Allow") != tt.allow || seen != tt.seen || strings.Contains(reply, "secret=1") {
				t.Errorf("the origin saw %q; the reply:\n%s", seen, reply)
			}
		})
	}
}

func TestOPTIONSOfAWholeServerKeepsItsAsterisk_RFC9112_3_2_4(t *testing.T) {
	got := make(chan string, 1)
	addr := origin(t, func(c net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		got <- line
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	s := newStand(t, client(t), nil)
	_, port, _ := net.SplitHostPort(addr)
	for uri, want := range map[string]string{"": "OPTIONS * HTTP/1.1\r\n", "/": "OPTIONS / HTTP/1.1\r\n", "?x": "OPTIONS /?x HTTP/1.1\r\n"} {
		s.talk(t, "OPTIONS http://origin.test:"+port+uri+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if line := <-got; line != want {
			t.Errorf("%q goes out as %q, want %q", uri, line, want)
		}
	}
}

func TestWhatCameThroughHereBeforeIsALoop_RFC9110_7_6_3(t *testing.T) {
	for via, want := range map[string]string{
		"Via: 1.1 fwdproxy\r\n":                                              "508",
		"Via: 1.0 a, HTTP/1.1 FWDproxy (x)\r\n":                              "508",
		"Via: 1.1 a\r\nVia: 1.1 fwdproxy\r\n":                                "508",
		"Connection: Via\r\nVia: 1.1 fwdproxy\r\n":                           "508",
		"Via: 1.1 fwdproxy2, 1.1 my-fwdproxy, 1.1 a (1.1 fwdproxy here)\r\n": "200",
	} {
		s := newStand(t, answer(200, nil, ""), nil)
		reply := s.talk(t, get(via))
		if status(reply) != want {
			t.Errorf("%q: %s, want %s", via, status(reply), want)
		}
		if rec := s.record(t); want == "508" && (rec.Error != string(fault.LoopDetected) || rec.Tag != accesslog.TagNone ||
			!strings.Contains(field(reply, "Proxy-Status"), "error=proxy_loop_detected")) {
			t.Errorf("%q: logged %+v; the reply:\n%s", via, rec, reply)
		}
	}
}

func TestTooManyFieldsAre431_RFC6585_5(t *testing.T) {
	s := newStand(t, answer(200, nil, ""), func(d *Door) { d.Limits.HeaderCount = 16 })
	// Host is no longer among the fields; Connection is.
	if reply := s.talk(t, get(strings.Repeat("X: 1\r\n", 15))); status(reply) != "200" {
		t.Errorf("at the limit:\n%s", reply)
	}
	s.record(t)
	if reply := s.talk(t, get(strings.Repeat("X: 1\r\n", 16))); status(reply) != "431" {
		t.Errorf("above the limit:\n%s", reply)
	}
	if rec := s.record(t); rec.Status != 431 {
		t.Errorf("logged: %+v", rec)
	}
	huge := s.talk(t, get("X: "+strings.Repeat("a", 70<<10)+"\r\n"))
	if status(huge) != "431" {
		t.Errorf("a head above limits.header_size:\n%s", huge)
	}
}

func TestARecordSaysWhatHappened(t *testing.T) {
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		if err := permit(r, "192.0.2.1:80"); err != nil {
			return nil, err
		}
		hop.From(r.Context()).Used(netip.MustParseAddrPort("192.0.2.1:80"), "DIRECT/192.0.2.1")
		return answer(200, http.Header{"Content-Length": {"5"}, "Content-Type": {"text/plain"}}, "hello")(r)
	}), nil)
	s.talk(t, "POST http://ORIGIN.test:80/a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: ua\r\nReferer: http://r.test/\r\nContent-Length: 3\r\n\r\nabc")
	r := s.record(t)
	got := []any{r.Mode, r.Client.Addr().String(), r.Method, r.URL, r.Proto, r.Status, r.Tag, r.Rule, r.Verdict, r.NextHop, r.BytesIn, r.BytesOut, r.ContentType, r.Referer, r.UserAgent, r.Error}
	want := []any{"forward", "127.0.0.1", "POST", "http://origin.test/a?b", "HTTP/1.1", 200, accesslog.TagMiss, "all", "allow", "DIRECT/192.0.2.1", int64(3), int64(5), "text/plain", "http://r.test/", "ua", ""}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d is %v, want %v", i, got[i], want[i])
		}
	}
	if len(r.RequestID) != 16 || r.Client.Port() == 0 || r.Time.IsZero() || r.Duration <= 0 {
		t.Errorf("logged: %+v", r)
	}
}

func TestTheCachesWordIsLogged(t *testing.T) {
	s := newStand(t, answer(200, nil, ""), nil)
	x := s.door.Begin(nilWriter{}, &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1})
	x.door.Cached = roundTrip(func(*http.Request) (*http.Response, error) {
		x.outcome = cache.Outcome{Result: cache.Hit, Status: "fwdproxy; hit"}
		return answer(200, nil, "")(&http.Request{Method: "GET"})
	})
	x.RoundTrip(&http.Request{Header: http.Header{}})
	if x.rec.Tag != accesslog.TagHit || x.rec.CacheStatus != "fwdproxy; hit" {
		t.Errorf("tag %q, status %q", x.rec.Tag, x.rec.CacheStatus)
	}
	// An error behind a cache says so too.
	page := x.Refusal(fault.New(fault.ConnectionRefused, "", nil))
	if page.Header.Get("Cache-Status") != "fwdproxy; hit" || page.StatusCode != 502 {
		t.Errorf("%d %v", page.StatusCode, page.Header)
	}
}

// nilWriter is a client's side that takes nothing and has no connection.
type nilWriter struct{}

func (nilWriter) Header() http.Header         { return http.Header{} }
func (nilWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nilWriter) WriteHeader(int)             {}

func TestEachRefusalHasItsTagAndRule(t *testing.T) {
	for name, tt := range map[string]struct {
		err     error
		tag     accesslog.Tag
		verdict string
		close   bool
	}{
		"a rule":        {&fault.Error{Kind: fault.RequestDenied, Rule: "r"}, accesslog.TagDenied, "deny", false},
		"an address":    {&fault.Error{Kind: fault.DestinationIPProhibited, Rule: "r"}, accesslog.TagDenied, "deny", false},
		"a bad request": {&fault.Error{Kind: fault.RequestError, Rule: "r"}, accesslog.TagNone, "", true},
		"a loop":        {&fault.Error{Kind: fault.LoopDetected, Rule: "r"}, accesslog.TagNone, "", false},
		"no site":       {&fault.Error{Kind: fault.DestinationNotFound, Rule: "r"}, accesslog.TagNone, "", false},
		"the next hop":  {&fault.Error{Kind: fault.ConnectionRefused, Rule: "r", Err: io.EOF}, accesslog.TagMiss, "", false},
	} {
		s := newStand(t, never(t), nil)
		x := s.door.Begin(nilWriter{}, &http.Request{Method: "GET"})
		page := x.Refusal(tt.err)
		if x.rec.Tag != tt.tag || x.rec.Verdict != tt.verdict || x.rec.Rule != "r" || (page.Header.Get("Connection") == "close") != tt.close {
			t.Errorf("%s: %+v, Connection %q", name, x.rec, page.Header.Get("Connection"))
		}
	}
}

func TestAClientsAddressIsPlain(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[fe80::1%eth0]:80": "fe80::1", "@": "invalid IP", "": "invalid IP",
	} {
		if got := ClientAddr(&http.Request{RemoteAddr: remote}).String(); got != want {
			t.Errorf("%q is %s, want %s", remote, got, want)
		}
	}
}
