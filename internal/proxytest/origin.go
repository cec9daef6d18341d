// Package proxytest holds what tests of the whole proxy need: a scripted
// origin server, and clients and servers that speak byte by byte. Only tests
// import it.
package proxytest

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Origin is a web server that answers by a script and remembers what it was
// asked. It speaks through net/http, but for the answers whose script begins
// with "raw".
type Origin struct {
	Addr string

	answers map[string]answer
	srv     *http.Server
	gate    chan struct{} // closed by Open

	mu   sync.Mutex
	seen []Seen
	once sync.Once
}

// Seen is one request that an Origin got.
type Seen struct {
	Method, Path string
	Host         string
	Header       http.Header
	Body         string
}

// answer is what the script says for one method and path.
type answer struct {
	status int
	header http.Header
	body   string
	raw    bool // body is everything, head included, and the connection closes
	wait   bool // the body's second half waits for Open
	echo   bool // the body is the request's
	socket bool // a WebSocket handshake and then an echo of bytes
}

// ParseOrigin reads a script:
//
//	== GET /path
//	200 [raw|wait|echo|socket]
//	Cache-Control: max-age=60
//
//	body, in which {count} is how often this was asked
func ParseOrigin(script string) (map[string]answer, error) {
	answers := map[string]answer{}
	for i, block := range strings.Split("\n"+script, "\n== ") {
		if i == 0 {
			continue
		}
		first, rest, _ := strings.Cut(block, "\n")
		head, body, _ := strings.Cut(rest, "\n\n")
		lines := strings.Split(head, "\n")
		words := strings.Fields(lines[0])
		if len(words) == 0 {
			return nil, fmt.Errorf("%q has no status", first)
		}
		a := answer{header: http.Header{}, body: strings.TrimSuffix(body, "\n")}
		var err error
		if a.status, err = strconv.Atoi(words[0]); err != nil {
			return nil, fmt.Errorf("%q: %w", first, err)
		}
		for _, w := range words[1:] {
			switch w {
			case "raw":
				a.raw = true
			case "wait":
				a.wait = true
			case "echo":
				a.echo = true
			case "socket":
				a.socket = true
			default:
				return nil, fmt.Errorf("%q: unknown word %q", first, w)
			}
		}
		for _, l := range lines[1:] {
			if l == "" {
				continue
			}
			name, value, ok := strings.Cut(l, ":")
			if !ok {
				return nil, fmt.Errorf("%q: %q is no field", first, l)
			}
			a.header.Add(name, strings.TrimSpace(value))
		}
		answers[strings.TrimSpace(first)] = a
	}
	return answers, nil
}

// StartOrigin serves the script on a free loopback port. Close must follow.
func StartOrigin(script string) (*Origin, error) {
	return startOrigin(script, func(l net.Listener) net.Listener { return l })
}

func startOrigin(script string, over func(net.Listener) net.Listener) (*Origin, error) {
	answers, err := ParseOrigin(script)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &Origin{Addr: l.Addr().String(), answers: answers, gate: make(chan struct{})}
	o.srv = &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	go o.srv.Serve(over(l))
	return o, nil
}

// Close stops the server at once.
func (o *Origin) Close() { o.Open(); o.srv.Close() }

// Open lets answers that wait go on.
func (o *Origin) Open() { o.once.Do(func() { close(o.gate) }) }

// Requests returns what was asked so far.
func (o *Origin) Requests() []Seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Seen(nil), o.seen...)
}

// Count returns how often method and path were asked.
func (o *Origin) Count(method, path string) int {
	n := 0
	for _, s := range o.Requests() {
		if s.Method == method && s.Path == path {
			n++
		}
	}
	return n
}

func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := o.answers[r.Method+" "+r.URL.RequestURI()]
	if !ok && r.Method == http.MethodHead {
		a, ok = o.answers["GET "+r.URL.RequestURI()]
	}
	// An answer that a 413 or 417 stands for comes before the body is read.
	var body []byte
	if a.status < 400 {
		body, _ = io.ReadAll(r.Body)
	}
	o.mu.Lock()
	o.seen = append(o.seen, Seen{r.Method, r.URL.RequestURI(), r.Host, r.Header.Clone(), string(body)})
	o.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	text := strings.ReplaceAll(a.body, "{count}", strconv.Itoa(o.Count(r.Method, r.URL.RequestURI())))
	if a.echo {
		text = string(body)
	}
	switch {
	case a.raw:
		o.sendRaw(w, text)
		return
	case a.socket:
		sendSocket(w, r)
		return
	}
	maps.Copy(w.Header(), a.header)
	if tag := a.header.Get("Etag"); tag != "" && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if !a.wait {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	}
	w.WriteHeader(a.status)
	if r.Method == http.MethodHead {
		return
	}
	if a.wait {
		io.WriteString(w, text[:len(text)/2])
		http.NewResponseController(w).Flush()
		<-o.gate
		text = text[len(text)/2:]
	}
	io.WriteString(w, text)
}

func (o *Origin) sendRaw(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
}

// sendSocket answers a WebSocket handshake (RFC 6455, Section 4.2.2) and then
// echoes bytes, not frames: what the proxy relays is opaque to it.
func sendSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "no Upgrade came", http.StatusBadRequest)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\nhello ",
		base64.StdEncoding.EncodeToString(sum[:]))
	line, err := bufio.NewReader(buf).ReadString('\n')
	if err == nil {
		io.WriteString(conn, line)
	}
}
