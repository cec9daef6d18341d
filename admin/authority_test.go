package admin

import (
	"bytes"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fwdproxy/intercept"
)

func TestTheAuthorityIsHandedOutWithInstructionsAndNeverItsKey(t *testing.T) {
	dir := t.TempDir()
	pem := filepath.Join(dir, "ca.pem")
	if err := intercept.Create(pem, filepath.Join(dir, "ca.key"), "The <CA>", []string{"a.test"}, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	der, err := intercept.ReadCertificate(pem)
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Options{Authority: func() []byte { return der }, Intercept: func() any { return []int{} }})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://127.0.0.1"+path, nil)
		h.ServeHTTP(w, r)
		return w
	}
	page := get("/ca").Body.String()
	for _, want := range []string{"The &lt;CA&gt;", "a.test and all below it", fingerprint(der), "update-ca-certificates", "NODE_EXTRA_CA_CERTS", "Firefox", "keytool", `href="/ca.pem"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if w := get("/ca.pem"); !bytes.Equal(w.Body.Bytes(), intercept.PEM(der)) || !strings.Contains(w.Header().Get("Content-Disposition"), `"fwdproxy-ca.pem"`) {
		t.Errorf("%v %q", w.Header(), w.Body)
	}
	if w := get("/ca.crt"); !bytes.Equal(w.Body.Bytes(), der) || w.Header().Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("%v", w.Header())
	}
	if w := get("/api/intercept"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	der = nil
	if w := get("/ca.pem"); w.Code != 404 {
		t.Errorf("without an authority: %d", w.Code)
	}
	if page := get("/ca").Body.String(); !strings.Contains(page, "There is none") || strings.Contains(page, "keytool") {
		t.Error(page)
	}
}
