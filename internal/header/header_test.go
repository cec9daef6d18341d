package header

import (
	"net/http"
	"reflect"
	"testing"
)

func TestConnectionNominatedFieldsGoNoFurther_RFC9110_7_6_1(t *testing.T) {
	h := http.Header{
		"Connection": {"close, X-Secret", `x-other ,, "quoted`}, "X-Secret": {"1"}, "X-Other": {"2"}, "X-Kept": {"3"},
		"Keep-Alive": {"timeout=5"}, "Te": {"trailers"}, "Trailer": {"X"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"h2c"},
		"Proxy-Authorization": {"Basic x"}, "Proxy-Connection": {"keep-alive"}, "Http2-Settings": {"x"},
	}
	RemoveHopByHop(h)
	if want := (http.Header{"X-Kept": {"3"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("left %v, want %v", h, want)
	}
}

func TestConnectionCannotNominateWhatPolicyAndCacheRestOn(t *testing.T) {
	h := http.Header{
		"Connection":    {"Cache-Control, Set-Cookie, Content-Length, Host, Authorization"},
		"Cache-Control": {"no-store"}, "Set-Cookie": {"a=b"}, "Content-Length": {"3"}, "Authorization": {"x"},
	}
	RemoveHopByHop(h)
	if want := (http.Header{"Cache-Control": {"no-store"}, "Set-Cookie": {"a=b"}, "Content-Length": {"3"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("left %v, want %v", h, want)
	}
}

func TestListFieldsSplitOverLinesButNotInQuotes_RFC9110_5_6_1(t *testing.T) {
	h := http.Header{"X": {`a, "b,c" ,`, ``, `d;q="e\",f", g`, `"open, h`}}
	want := []string{"a", `"b,c"`, `d;q="e\",f"`, "g", `"open, h`}
	if got := Tokens(h, "X"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestViaGrowsAsOneLineAndShowsALoop_RFC9110_7_6_3(t *testing.T) {
	h := http.Header{"Via": {"1.0 fred", "1.1 p.example.net (Apache/1.1)"}}
	if Passed(h, "fwdproxy") {
		t.Error("a loop is seen where there is none")
	}
	AppendVia(h, 1, 1, "fwdproxy")
	if got, want := h["Via"], []string{"1.0 fred, 1.1 p.example.net (Apache/1.1), 1.1 fwdproxy"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Via %q, want %q", got, want)
	}
	if !Passed(h, "fwdproxy") || !Passed(http.Header{"Via": {"HTTP/1.1 FWDPROXY (x, y)"}}, "fwdproxy") {
		t.Error("a loop is not seen")
	}
	h2 := http.Header{}
	if AppendVia(h2, 2, 0, "p"); h2.Get("Via") != "2 p" {
		t.Errorf("Via %q for HTTP/2", h2.Get("Via"))
	}
}

func TestUpgradeNeedsConnectionToNameIt_RFC9110_7_8(t *testing.T) {
	if got := Upgrade(http.Header{"Upgrade": {"websocket"}}); got != "" {
		t.Errorf("got %q without Connection", got)
	}
	if got := Upgrade(http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}}); got != "websocket" {
		t.Errorf("got %q", got)
	}
}

func FuzzTokensNeverPanicsNorInvents(f *testing.F) {
	f.Add(`a, "b,c\"", d`)
	f.Fuzz(func(t *testing.T, s string) {
		total := 0
		for _, tok := range Tokens(http.Header{"X": {s}}, "X") {
			total += len(tok)
		}
		if total > len(s) {
			t.Fatalf("%q grew", s)
		}
	})
}
