package upstream

import (
	"net/http"
	"strings"
	"testing"
)

func TestAHeadIsTheSameWhateverWasMadeInItsRoomBefore(t *testing.T) {
	used := new(outgoing)
	long := request(t, "GET", "http://long.test/"+strings.Repeat("a", 512), nil)
	long.Header = http.Header{"X-Secret": {"for another"}, "Accept": {"a", "b"}, "Zz": {"z"}}
	if _, err := encodeHead(long, used); err != nil {
		t.Fatal(err)
	}
	bad := request(t, "GET", "http://b.test/", nil)
	bad.Header = http.Header{"X": {"a\nb"}}
	if _, err := encodeHead(bad, used); err == nil {
		t.Error("a control character passed")
	}
	short := request(t, "GET", "http://a.test/", nil)
	short.Header = http.Header{"Via": {"1.1 x"}}
	got, err := encodeHead(short, used)
	if want := "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 x\r\n\r\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = encodeHead(short, used) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
