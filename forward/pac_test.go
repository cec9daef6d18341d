package forward

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/dop251/goja"

	"fwdproxy/internal/target"
)

// browser evaluates a PAC file as a browser would, and answers where it would
// send what. The file must not have it resolve anything.
func browser(t *testing.T, script []byte) func(rawurl, host string) string {
	t.Helper()
	vm := goja.New()
	for _, name := range []string{"dnsResolve", "dnsResolveEx", "isResolvable", "isResolvableEx", "isInNet", "isInNetEx", "myIpAddress", "myIpAddressEx"} {
		if err := vm.Set(name, func(args ...string) string { t.Errorf("%s%q looks something up", name, args); return "10.0.0.1" }); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.Set("alert", func(what string) { t.Errorf("the script does %q", what) }); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.RunScript("proxy.pac", string(script)); err != nil {
		t.Fatalf("%v in\n%s", err, script)
	}
	find, ok := goja.AssertFunction(vm.Get("FindProxyForURL"))
	if !ok {
		t.Fatalf("there is no FindProxyForURL in\n%s", script)
	}
	return func(rawurl, host string) string {
		v, err := find(goja.Undefined(), vm.ToValue(rawurl), vm.ToValue(host))
		if err != nil {
			t.Fatalf("%q: %v", host, err)
		}
		return v.String()
	}
}

var reached = target.Target{Scheme: "http", Host: "proxy.example", Port: 3128}

func TestABrowserSendsEachHostWhereThePolicySays(t *testing.T) {
	c := PACConfig{Fallback: fallbackNone, Direct: []string{
		".Intranet.Example", "one.example.", "bücher.example", ".__proto__", "10.0.0.0/8", "192.0.2.128/25", "198.51.100.7", "2001:db8::/33", "fd00::1", "0.0.0.0/32",
	}}
	if p := c.validate(); len(p) > 0 {
		t.Fatal(p)
	}
	const proxy = "PROXY proxy.example:3128"
	find := browser(t, NewPAC(c).Script(reached))
	for host, want := range map[string]string{
		"www.example.com":               proxy,
		"intranet.example":              "DIRECT",
		"a.b.intranet.example":          "DIRECT",
		"A.INTRANET.example.":           "DIRECT",
		"notintranet.example":           proxy,
		"intranet.example.evil.test":    proxy,
		"one.example":                   "DIRECT",
		"sub.one.example":               proxy,
		"xn--bcher-kva.example":         "DIRECT",
		"a.__proto__":                   "DIRECT",
		"constructor.example":           proxy,
		"plain":                         "DIRECT",
		"plain.":                        "DIRECT",
		"localhost":                     "DIRECT",
		"a.localhost":                   "DIRECT",
		"localhost.example":             proxy,
		"127.0.0.1":                     "DIRECT",
		"127.255.0.9":                   "DIRECT",
		"128.0.0.1":                     proxy,
		"127.0.0.1.evil.test":           proxy,
		"::1":                           "DIRECT",
		"[::1]":                         "DIRECT",
		"0:0:0:0:0:0:0:1":               "DIRECT",
		"::2":                           proxy,
		"10.1.2.3":                      "DIRECT",
		"11.1.2.3":                      proxy,
		"10.1.2.3.example":              proxy,
		"10.1.2.256":                    proxy,
		"192.0.2.127":                   proxy,
		"192.0.2.128":                   "DIRECT",
		"198.51.100.7":                  "DIRECT",
		"198.51.100.70":                 proxy,
		"0.0.0.0":                       "DIRECT",
		"2001:db8::1":                   "DIRECT",
		"[2001:DB8:7fff::1]":            "DIRECT",
		"2001:db8:8000::1":              proxy,
		"2001:db8:0:0:1:2:192.0.2.1":    "DIRECT",
		"fd00::1":                       "DIRECT",
		"fd00::1:0":                     proxy,
		"::ffff:10.1.2.3":               proxy,
		"1:2:3":                         proxy,
		"1:2:3:4:5:6:7:8:9":             proxy,
		"2001:db8::1::2":                proxy,
		":::":                           proxy,
		"fe80::1%eth0":                  proxy,
		"169.254.169.254":               proxy,
		"metadata.google.internal":      proxy,
		strings.Repeat("a.", 120) + "b": proxy,
	} {
		if got := find("http://"+host+"/", host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestABrowserTriesTheProxiesInOrder(t *testing.T) {
	v6 := target.Target{Scheme: "https", Host: "2001:db8::1", Addr: netip.MustParseAddr("2001:db8::1"), Port: 3129}
	for name, tt := range map[string]struct {
		config PACConfig
		asked  target.Target
		want   string
	}{
		"what it asked":           {PACConfig{}, reached, "PROXY proxy.example:3128"},
		"what it asked with TLS":  {PACConfig{}, v6, "HTTPS [2001:db8::1]:3129"},
		"or nothing at all":       {PACConfig{Fallback: "direct"}, reached, "PROXY proxy.example:3128; DIRECT"},
		"what the policy says":    {PACConfig{Proxy: []string{"https://A.example:3129", "b.example:3128", "http://[2001:db8::2]:80"}}, v6, "HTTPS a.example:3129; PROXY b.example:3128; PROXY [2001:db8::2]:80"},
		"the policy's or nothing": {PACConfig{Proxy: []string{"b.example:1"}, Fallback: "direct"}, v6, "PROXY b.example:1; DIRECT"},
	} {
		if got := browser(t, NewPAC(tt.config).Script(tt.asked))("http://www.example.com/", "www.example.com"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// hostile is what somebody could hope to become code, or break it.
var hostile = []string{
	`"`, `\`, `"; alert("in"); "`, `\"; alert("in"); //`, "a\nalert(1)\n", "a\u2028alert(1)\u2029", "</script><script>alert(1)</script>",
	`*/alert(1)/*`, "{{.Proxies}}", "${alert(1)}", "a\x00b", "\xff\xfe", "__proto__", "PROXY evil.test:1; DIRECT",
}

func TestNothingThatIsWrittenInThePolicyBecomesCode(t *testing.T) {
	for _, s := range hostile {
		for _, entry := range []string{s, "." + s, s + ".example", s + ":3128"} {
			// As if nobody had looked at it.
			p := PAC{proxies: []target.Target{{Scheme: "http", Host: s, Port: 1}}, names: []string{entry}, below: []string{entry}, bits: []string{entry}}
			script := p.Script(reached)
			find := browser(t, script)
			if got := find("", "www.example.com"); !strings.HasPrefix(got, "PROXY ") {
				t.Errorf("%q: %q", entry, got)
			}
			if strings.Contains(string(script), "</script") || strings.ContainsAny(string(script), "\u2028\u2029\x00") {
				t.Errorf("%q stands in the script as it is", entry)
			}
			// And as it is: no name has such letters.
			p = NewPAC(PACConfig{Proxy: []string{entry}, Direct: []string{entry}})
			if got := browser(t, p.Script(reached))("", "www.example.com"); got != "PROXY proxy.example:3128" && got != "PROXY __proto__:3128" {
				t.Errorf("%q becomes the proxy %q", entry, got)
			}
		}
	}
}

func FuzzWhateverThePolicySaysTheScriptIsTheSameCode(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, s, s)
	}
	f.Add("https://proxy.example:3129", ".intranet.example", "www.intranet.example")
	f.Fuzz(func(t *testing.T, proxy, direct, host string) {
		p := NewPAC(PACConfig{Proxy: []string{proxy}, Direct: []string{direct}})
		got := browser(t, p.Script(reached))("http://"+host+"/", host)
		if got != "DIRECT" && !strings.HasPrefix(got, "PROXY ") && !strings.HasPrefix(got, "HTTPS ") || strings.Contains(got, ";") {
			t.Errorf("%q", got)
		}
	})
}

func TestWhatNoClientCouldUseIsAProblem(t *testing.T) {
	for key, entries := range map[string][]string{
		"proxy":  {"", "proxy.example", "proxy.example:0", "socks5://proxy.example:1080", "https://", "http://a:1/", "u@a:1", "a b:1", "2001:db8::1:80", "https://proxy.example", "a:1; DIRECT"},
		"direct": {"", ".", "*.example.com", "10.0.0.1/8", "10.0.0.0/33", ".10.0.0.1", "a b", "http://a.example", "a.example:80", "127.1", "fe80::1%eth0", "::ffff:10.0.0.0/104", `a"`, "list:x"},
	} {
		for _, entry := range entries {
			c := PACConfig{Fallback: fallbackNone}
			if key == "proxy" {
				c.Proxy = []string{"good.example:1", entry}
			} else {
				c.Direct = []string{"good.example", entry}
			}
			if p := c.validate(); len(p) != 1 || p[0].Key != "forward.pac."+key+"[1]" || p[0].Hint == "" {
				t.Errorf("%s = %q: %v", key, entry, p)
			}
		}
	}
	if p := (PACConfig{}).validate(); len(p) != 1 || p[0].Key != "forward.pac.fallback" {
		t.Errorf("no fallback: %v", p)
	}
}

func TestTheProxyAnswersWithThePACFileItself(t *testing.T) {
	s := newStand(t, never(t), "")
	for name, tt := range map[string]struct {
		request, status, proxy string
	}{
		"by its own port":              {"GET /proxy.pac HTTP/1.1\r\nHost: proxy.example:3128\r\n", "200", "PROXY proxy.example:3128"},
		"as WPAD":                      {"GET /wpad.dat HTTP/1.1\r\nHost: wpad\r\n", "200", "PROXY wpad:80"},
		"with a query":                 {"GET /proxy.pac?v=2 HTTP/1.1\r\nHost: [2001:db8::1]:3128\r\n", "200", "PROXY [2001:db8::1]:3128"},
		"HTTP/1.0 without Host":        {"GET /wpad.dat HTTP/1.0\r\n", "200", "PROXY " + s.addr},
		"with credentials":             {"GET /proxy.pac HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic eDp5\r\n", "200", "PROXY a:1"},
		"the head alone":               {"HEAD /proxy.pac HTTP/1.1\r\nHost: a:1\r\n", "200", ""},
		"another method":               {"POST /proxy.pac HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n", "400", ""},
		"another path":                 {"GET /proxy.pac/ HTTP/1.1\r\nHost: a:1\r\n", "400", ""},
		"two slashes":                  {"GET //proxy.pac HTTP/1.1\r\nHost: a:1\r\n", "400", ""},
		"an escape":                    {"GET /proxy%2epac HTTP/1.1\r\nHost: a:1\r\n", "400", ""},
		"upper case":                   {"GET /PROXY.PAC HTTP/1.1\r\nHost: a:1\r\n", "400", ""},
		"a Host that is an odd number": {"GET /proxy.pac HTTP/1.1\r\nHost: 127.1\r\n", "400", ""},
		"a Host with an odd port":      {"GET /proxy.pac HTTP/1.1\r\nHost: a:99999\r\n", "400", ""},
	} {
		res := s.talk(t, tt.request+"Connection: close\r\n\r\n")
		head, body, _ := strings.Cut(res, "\r\n\r\n")
		if status(res) != tt.status {
			t.Errorf("%s: %s", name, res)
		}
		record := s.record(t)
		if record.Status != 200 && tt.status == "200" || record.Method != tt.request[:strings.Index(tt.request, " ")] || record.Verdict != "" {
			t.Errorf("%s: logged %+v", name, record)
		}
		if tt.status != "200" {
			continue
		}
		for field, want := range map[string]string{
			"Content-Type": "application/x-ns-proxy-autoconfig", "Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff",
		} {
			if !strings.Contains(head+"\r\n", "\r\n"+field+": "+want+"\r\n") {
				t.Errorf("%s: no %s: %s in\n%s", name, field, want, head)
			}
		}
		if tt.proxy == "" {
			if body != "" || !strings.Contains(head, "\r\nContent-Length: ") {
				t.Errorf("%s: %s", name, res)
			}
		} else if got := browser(t, []byte(body))("", "www.example.com"); got != tt.proxy {
			t.Errorf("%s: %q, want %q", name, got, tt.proxy)
		}
	}
}

func TestAWholeURLIsNeverTheProxysOwnFile_RFC9112_3_2_2(t *testing.T) {
	var seen []string
	s := newStand(t, answer(&seen), "")
	res := s.talk(t, "GET http://"+s.addr+"/proxy.pac HTTP/1.1\r\nHost: "+s.addr+"\r\nConnection: close\r\n\r\n")
	if status(res) == "200" && strings.Contains(res, "FindProxyForURL") {
		t.Errorf("%s", res)
	}
	res = s.talk(t, "GET http://other.test/proxy.pac HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n")
	if status(res) != "200" || len(seen) == 0 || seen[len(seen)-1] != "GET http://other.test/proxy.pac Host=other.test" {
		t.Errorf("%q: %s", seen, res)
	}
}

func TestOverHTTP2TheFileIsForTheHostThatTLSWasOpenedTo(t *testing.T) {
	for name, tt := range map[string]struct {
		url, sni string
		want     bool
	}{
		"that host":            {"https://proxy.example:3129/proxy.pac", "proxy.example", true},
		"in other letters":     {"https://PROXY.example/wpad.dat?x", "Proxy.Example", true},
		"another host":         {"https://other.example/proxy.pac", "proxy.example", false},
		"no name in TLS":       {"https://proxy.example:3129/proxy.pac", "", false},
		"the address":          {"https://192.0.2.1:3129/proxy.pac", "", true},
		"another address":      {"https://192.0.2.2:3129/proxy.pac", "", false},
		"plain HTTP elsewhere": {"http://proxy.example/proxy.pac", "proxy.example", false},
		"another path":         {"https://proxy.example/proxy%2epac", "proxy.example", false},
	} {
		r := httptest.NewRequest("GET", tt.url, nil)
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		r.URL, r.ProtoMajor, r.ProtoMinor, r.TLS = u, 2, 0, &tls.ConnectionState{ServerName: tt.sni}
		r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3129})))
		if got := asksPAC(r); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
