package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

var (
	noon   = time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC)
	client = netip.MustParseAddr("192.0.2.1")
	config = Config{Htpasswd: "users", Tokens: "tokens", Groups: "groups", Realm: "Example", Remember: unit.Duration(time.Minute), Failures: 3}

	robot, robotHash = NewToken()
)

type files map[string]string

func (f files) open(path string) (io.ReadCloser, error) {
	text, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func hash(password string) string {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(h)
}

func people() files {
	return files{
		"users":  "# people\n\nann:" + hash("secret") + "\r\nbob:" + hash("pass:word:") + "\nzoë:" + hash("žluťoučký") + "\n",
		"tokens": "robot " + robotHash + "\n",
		"groups": "all: ann bob robot\nsales: ann\nempty:\nall: zoë ann\n",
	}
}

// stand is a checker that counts what it verifies.
type stand struct {
	*Checker
	compared atomic.Int32
}

func newStand(t testing.TB, c Config, f files) *stand {
	t.Helper()
	d, problems := Load(c, f.open)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s := &stand{Checker: New(c, d, nil)}
	s.compare = func(user, password string) bool {
		s.compared.Add(1)
		return d.fits(user, password)
	}
	return s
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func statusOf(err error) int {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.HTTPStatus()
	}
	if err != nil {
		return -1
	}
	return 0
}

// RFC 9110, Section 11.4; RFC 7617, Section 2; RFC 6750, Section 2.1.
func TestOnlyWellFormedAndRightCredentialsMakeAnIdentity(t *testing.T) {
	code := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct {
		fields []string
		want   string // "" is a 407
	}{
		"right":                                 {[]string{basic("ann", "secret")}, "ann all sales"},
		"the scheme in any case":                {[]string{"bAsIc   " + code("ann:secret")}, "ann all sales"},
		"colons in the password":                {[]string{basic("bob", "pass:word:")}, "bob all"},
		"UTF-8 (RFC 7617, Section 2.1)":         {[]string{basic("zoë", "žluťoučký")}, "zoë all"},
		"a token as Bearer":                     {[]string{"Bearer " + robot}, "robot all"},
		"the scheme Bearer in any case":         {[]string{"BEARER " + robot}, "robot all"},
		"a token as a password":                 {[]string{basic("robot", robot)}, "robot all"},
		"a wrong password":                      {[]string{basic("ann", "Secret")}, ""},
		"no password":                           {[]string{basic("ann", "")}, ""},
		"another's password":                    {[]string{basic("ann", "pass:word:")}, ""},
		"the user's name in another case":       {[]string{basic("Ann", "secret")}, ""},
		"nobody":                                {[]string{basic("dan", "secret")}, ""},
		"an empty user":                         {[]string{basic("", "secret")}, ""},
		"an empty user with a token":            {[]string{basic("", robot)}, ""},
		"a token with another's name":           {[]string{basic("ann", robot)}, ""},
		"a password as Bearer":                  {[]string{"Bearer secret"}, ""},
		"a password's base64 as Bearer":         {[]string{"Bearer " + code("ann:secret")}, ""},
		"a token's hash as Bearer":              {[]string{"Bearer " + robotHash}, ""},
		"a hash as a password":                  {[]string{basic("robot", robotHash)}, ""},
		"a token in lower case":                 {[]string{"Bearer " + strings.ToLower(robot)}, ""},
		"a token with padding":                  {[]string{"Bearer " + robot + "="}, ""},
		"two tokens":                            {[]string{"Bearer " + robot + " " + robot}, ""},
		"no colon":                              {[]string{"Basic " + code("ann")}, ""},
		"no base64":                             {[]string{"Basic !!!!"}, ""},
		"base64 without its padding":            {[]string{"Basic " + strings.TrimRight(code("ann:secret"), "=")}, ""},
		"base64 with bits left over":            {[]string{"Basic YW5uOnNlY3JldB=="}, ""},
		"base64 with more behind it":            {[]string{basic("ann", "secret") + ", Basic x"}, ""},
		"a newline in base64":                   {[]string{"Basic YW5u\nOnNlY3JldA=="}, ""},
		"a NUL behind the password":             {[]string{basic("ann", "secret\x00")}, ""},
		"a control character in the user":       {[]string{basic("ann\x7f", "secret")}, ""},
		"Latin-1 (RFC 7617, Section 2.1)":       {[]string{basic("zo\xeb", "žluťoučký")}, ""},
		"the scheme alone":                      {[]string{"Basic"}, ""},
		"the scheme Bearer alone":               {[]string{"Bearer "}, ""},
		"nothing in the field":                  {[]string{""}, ""},
		"a scheme that is not offered":          {[]string{`Digest username="ann"`}, ""},
		"Negotiate":                             {[]string{"Negotiate YII="}, ""},
		"two fields, though the first is right": {[]string{basic("ann", "secret"), basic("bob", "x")}, ""},
		"two fields that are the same":          {[]string{basic("ann", "secret"), basic("ann", "secret")}, ""},
	} {
		s := newStand(t, config, people())
		who, err := s.Check(c.fields, client, noon)
		got := strings.TrimSpace(who.User + " " + strings.Join(who.Groups, " "))
		if got != c.want || (c.want == "") != (statusOf(err) == http.StatusProxyAuthRequired) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	if who, err := newStand(t, config, people()).Check(nil, client, noon); who.User != "" || err != nil {
		t.Errorf("no credentials: %+v, %v", who, err)
	}
}

func TestNoLineMakesATokenOfWhatCanBeGuessed(t *testing.T) {
	f := people()
	for _, weak := range []string{"letmein", "fwdp_letmein", robot[:len(robot)-1], robot + "A"} {
		f["tokens"] = fmt.Sprintf("robot %x\n", sha256.Sum256([]byte(weak)))
		if who, err := newStand(t, config, f).Check([]string{"Bearer " + weak}, client, noon); err == nil {
			t.Errorf("%s makes %+v", weak, who)
		}
	}
}

// RFC 9110, Section 11.7.1; RFC 7617, Section 2.1; RFC 6750, Section 3.1.
func TestAChallengeOffersWhatThereIs(t *testing.T) {
	all := newStand(t, config, people())
	if got := strings.Join(all.Challenges(), "\n"); got != "Basic realm=\"Example\", charset=\"UTF-8\"\nBearer realm=\"Example\"" {
		t.Error(got)
	}
	c := config
	c.Tokens = ""
	if got := strings.Join(newStand(t, c, people()).Challenges(), "\n"); got != `Basic realm="Example", charset="UTF-8"` {
		t.Error(got)
	}
	_, err := all.Check([]string{"Bearer x"}, client, noon)
	var f *fault.Error
	if !errors.As(err, &f) || f.Challenge[1] != `Bearer realm="Example", error="invalid_token"` {
		t.Errorf("%+v", f)
	}
	if _, err := all.Check([]string{basic("ann", "hunter2")}, client, noon); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestAPasswordThatWasRightIsNotVerifiedAgainForAWhile(t *testing.T) {
	s := newStand(t, config, people())
	ask := func(password string, now time.Time, compared int32, status int) {
		t.Helper()
		if _, err := s.Check([]string{basic("ann", password)}, client, now); statusOf(err) != status || s.compared.Load() != compared {
			t.Errorf("%v, after %d comparisons; want %d after %d", err, s.compared.Load(), status, compared)
		}
	}
	ask("secret", noon, 1, 0)
	ask("secret", noon.Add(time.Minute-1), 1, 0)
	ask("secret", noon.Add(time.Minute), 2, 0)
	ask("secre", noon.Add(time.Minute), 3, 407)
	ask("secret", noon.Add(time.Minute), 3, 0)
	if _, err := s.Check([]string{basic("annsecret", "")}, client, noon); err == nil {
		t.Error("the name and the password run into each other")
	}

	c := config
	c.Remember = 0
	s = newStand(t, c, people())
	ask("secret", noon, 1, 0)
	ask("secret", noon, 2, 0)
}

func TestAChangeOfTheFilesForgetsWhatWasRight(t *testing.T) {
	s := newStand(t, config, people())
	if _, err := s.Check([]string{basic("ann", "secret")}, client, noon); err != nil {
		t.Fatal(err)
	}
	next := New(config, s.directory, s.Checker)
	if next.memory != s.memory || next.limits != s.limits || next.slots != s.slots {
		t.Error("what stays the same is not taken over")
	}
	changed := people()
	changed["users"] = "ann:" + hash("other") + "\n"
	d, problems := Load(config, changed.open)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	next = New(config, d, next)
	if _, err := next.Check([]string{basic("ann", "secret")}, client, noon); statusOf(err) != 407 {
		t.Errorf("the old password: %v", err)
	}
	if next.limits != s.limits {
		t.Error("a reload forgets who failed")
	}
}

func TestWhoFailsTooOftenWaits(t *testing.T) {
	s := newStand(t, config, people())
	ask := func(from string, field string, now time.Time, want int) error {
		t.Helper()
		_, err := s.Check([]string{field}, netip.MustParseAddr(from), now)
		if statusOf(err) != want {
			t.Errorf("%s: %v, want %d", from, err, want)
		}
		return err
	}
	ask("192.0.2.9", basic("bob", "pass:word:"), noon, 0) // and is remembered
	for i := range 3 {
		ask("192.0.2.1", basic("ann", fmt.Sprint(i)), noon, 407)
	}
	compared := s.compared.Load()
	var f *fault.Error
	err := ask("192.0.2.1", basic("ann", "secret"), noon, 429)
	if !errors.As(err, &f) || f.RetryAfter != 20*time.Second || len(f.Challenge) > 0 {
		t.Errorf("%+v", f)
	}
	ask("192.0.2.1", basic("dan", "x"), noon, 429)
	ask("192.0.2.1", "Bearer x", noon, 429)
	ask("192.0.2.1", "Basic !", noon, 429)
	if s.compared.Load() != compared {
		t.Error("a password was verified that had to wait")
	}
	ask("192.0.2.1", basic("bob", "pass:word:"), noon, 0)
	ask("192.0.2.1", "Bearer "+robot, noon, 0)
	ask("::ffff:192.0.2.1", basic("ann", "secret"), noon, 429)
	ask("192.0.2.2", basic("ann", "secret"), noon, 0)
	ask("192.0.2.1", basic("zoë", "žluťoučký"), noon.Add(20*time.Second), 0)
	ask("192.0.2.1", basic("ann", "x"), noon.Add(20*time.Second), 407)
	ask("192.0.2.1", basic("ann", "x"), noon.Add(20*time.Second), 429)

	// A clock that goes back and forth fills nothing.
	ask("192.0.2.3", basic("ann", "x"), noon.Add(time.Minute), 407)
	ask("192.0.2.3", basic("ann", "x"), noon.Add(time.Minute), 407)
	ask("192.0.2.3", basic("ann", "x"), noon, 407)
	ask("192.0.2.3", basic("ann", "x"), noon.Add(time.Minute), 429)

	// Whoever has one IPv6 address has 2^64.
	for i := range 3 {
		ask(fmt.Sprintf("2001:db8::%x:1", i+1), basic("ann", "x"), noon.Add(time.Hour), 407)
	}
	ask("2001:db8::ffff:ffff:ffff:ffff", basic("ann", "x"), noon.Add(time.Hour), 429)
	ask("2001:db8:0:1::1", basic("ann", "x"), noon.Add(time.Hour), 407)
}

func TestManyAddressesTogetherWaitForOneUser(t *testing.T) {
	s := newStand(t, config, people())
	got := map[int]int{}
	for i := range 60 {
		_, err := s.Check([]string{basic("ann", fmt.Sprint(i))}, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), noon)
		got[statusOf(err)]++
	}
	if got[407] != 30 || got[429] != 30 {
		t.Errorf("%v", got)
	}
	if _, err := s.Check([]string{basic("bob", "pass:word:")}, client, noon); err != nil {
		t.Errorf("another user: %v", err)
	}
}

func TestWhatIsKeptOfFailuresAndPasswordsIsBounded(t *testing.T) {
	l := newLimits(3)
	for i := range 3 * maxKept {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.failed(a, fmt.Sprint(i), noon)
	}
	m := newMemory()
	for i := range 2 * maxKept {
		m.add(mark{byte(i), byte(i >> 8), byte(i >> 16)}, noon.Add(time.Duration(i)))
	}
	if len(l.addresses.kept) != maxKept || len(l.users.kept) != maxKept || len(m.until) != maxKept {
		t.Errorf("%d addresses, %d users, %d passwords", len(l.addresses.kept), len(l.users.kept), len(m.until))
	}
}

func TestAFloodOfPasswordsIsVerifiedAFewAtATimeAndNotForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, config, people())
		s.slots = make(chan struct{}, 2)
		var running, most atomic.Int32
		s.compare = func(string, string) bool {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(4 * time.Second)
			running.Add(-1)
			return false
		}
		var mu sync.Mutex
		got := map[int]int{}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				_, err := s.Check([]string{basic("ann", fmt.Sprint(i))}, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), noon)
				mu.Lock()
				got[statusOf(err)]++
				mu.Unlock()
			})
		}
		all.Wait()
		// Two at 0, 4 and 8 seconds; those who wait give up after ten.
		if most.Load() != 2 || got[407] != 6 || got[503] != 14 {
			t.Errorf("%d at a time, %v", most.Load(), got)
		}
	})
}

func TestOneClientGetsNoMoreTriesByMakingThemAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, config, people())
		s.slots = make(chan struct{}, 2)
		var compared atomic.Int32
		s.compare = func(string, string) bool {
			compared.Add(1)
			time.Sleep(time.Millisecond)
			return false
		}
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { _, _ = s.Check([]string{basic("ann", fmt.Sprint(i))}, client, noon) })
		}
		all.Wait()
		if n := compared.Load(); n > 4 { // 3, and one more in the other slot
			t.Errorf("%d passwords were tried", n)
		}
	})
}

func TestManyRequestsWithOnePasswordVerifyItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, config, people())
		var compared atomic.Int32
		s.compare = func(string, string) bool {
			compared.Add(1)
			time.Sleep(50 * time.Millisecond)
			return true
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if who, err := s.Check([]string{basic("ann", "secret")}, client, noon); err != nil || who.User != "ann" {
					t.Errorf("%+v, %v", who, err)
				}
			})
		}
		all.Wait()
		if n := compared.Load(); n != 1 {
			t.Errorf("verified %d times", n)
		}
	})
}

func TestAUserWhoIsNotThereCostsAsMuchAsOneWhoIs(t *testing.T) {
	d, problems := Load(Config{Htpasswd: "users"}, files{"users": "ann:" + hash("a") + "\n"}.open)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if cost, err := bcrypt.Cost(d.decoy); err != nil || cost != bcrypt.MinCost || len(d.decoy) != bcryptLength {
		t.Errorf("%s: %d, %v", d.decoy, cost, err)
	}
	// Any other error than this would come before the work is done.
	if err := bcrypt.CompareHashAndPassword(d.decoy, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Error(err)
	}
}

func TestEveryMalformedLineIsReportedWithFileAndLineAndNoSecretOfIt(t *testing.T) {
	other, otherHash := NewToken()
	f := files{
		"users": strings.Join([]string{"# fine", "ann:" + hash("x"), "ann:" + hash("y"), "nocolon-hunter2", ":" + hash("x"), "two words:" + hash("x"),
			"apr:$apr1$abc$hunter2", "sha:{SHA}hunter2", "six:$6$hunter2", "plain:hunter2", "short:" + hash("x")[:59], "old:$2x" + hash("x")[3:]}, "\n"),
		"users2": "slow:$2y$16" + hash("x")[6:] + "\nlong:" + hash("x") + ":hunter2\nodd:" + hash("x")[:59] + "!\nbad\xff:" + hash("x") + "\n",
		"tokens": "robot " + robotHash + "\nrobot " + otherHash + "\ntwice " + otherHash + "\nbare " + other + "\nann " + strings.Repeat("0", 64) + "\nshort abc\nlong " + robotHash + "00\nonly\n",
		"groups": "no colon\n: ann\nsales team: ann\nfine: ann bob\nodd: a:b\n",
	}
	_, problems := Load(Config{Htpasswd: "users", Tokens: "tokens", Groups: "groups"}, f.open)
	got := text(problems)
	_, problems = Load(Config{Htpasswd: "users2"}, f.open)
	got += text(problems)
	want, err := os.ReadFile("testdata/problems.golden")
	if err != nil || got != string(want) {
		t.Errorf("%v, got:\n%swant:\n%s", err, got, want)
	}
	if strings.Contains(got, "hunter2") || strings.Contains(got, "$2a$") || strings.Contains(got, other) {
		t.Error("a secret is shown")
	}
}

func text(l problem.List) string {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func TestAFileThatCannotBeReadOrIsEmptyIsAProblem(t *testing.T) {
	for name, f := range map[string]files{
		"missing": {"users": "ann:" + hash("x") + "\n", "tokens": "robot " + robotHash + "\n"},
		"empty":   {"users": "ann:" + hash("x") + "\n", "tokens": "robot " + robotHash + "\n", "groups": ""},
		"long":    {"users": "ann:" + hash("x") + "\n", "tokens": "robot " + robotHash + "\n", "groups": "a:" + strings.Repeat(" x", maxLine)},
	} {
		d, problems := Load(config, f.open)
		if d != nil || len(problems) != 1 || problems[0].Key != "forward.auth.groups" {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestSettingsThatCannotBeAreProblems(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"off":                  {DefaultConfig(), ""},
		"on":                   {config, ""},
		"a quote in the realm": {Config{Htpasswd: "u", Realm: `a"b`, Failures: 1}, "forward.auth.realm"},
		"no realm":             {Config{Htpasswd: "u", Failures: 1}, "forward.auth.realm"},
		"no failures":          {Config{Htpasswd: "u", Realm: "a"}, "forward.auth.failures"},
	} {
		p := c.config.Validate()
		if c.want == "" && len(p) > 0 || c.want != "" && (len(p) != 1 || p[0].Key != c.want) {
			t.Errorf("%s: %v", name, p)
		}
	}
}

func TestALineIsReplacedOrAddedAndTheOthersStay(t *testing.T) {
	for name, c := range map[string]struct{ text, user, want string }{
		"a new file":           {"", "ann", "ann:NEW\n"},
		"a new user":           {"# people\nbob:x", "ann", "# people\nbob:x\nann:NEW\n"},
		"another password":     {"ann:x\n# people\n\nbob:x\n", "ann", "ann:NEW\n# people\n\nbob:x\n"},
		"two lines of one":     {"ann:x\nbob:x\nann:y\n", "ann", "ann:NEW\nbob:x\n"},
		"a name in another":    {"joann:x\nann2:y\n", "ann", "joann:x\nann2:y\nann:NEW\n"},
		"a name with a colon":  {"", "a:b", ""},
		"a name with a space":  {"", "a b", ""},
		"no name":              {"", "", ""},
		"a comment for a name": {"", "#ann", ""},
	} {
		got, err := WithLine(c.text, c.user, "NEW")
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestANewPasswordIsOneThatEveryClientCanSend(t *testing.T) {
	for name, password := range map[string]string{"empty": "", "too long": strings.Repeat("x", 73), "a control character": "a\x01", "Latin-1": "\xe9"} {
		if _, err := HashPassword(password); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	h, err := HashPassword("a:b ž")
	if err != nil || checkHash(h) != nil || bcrypt.CompareHashAndPassword([]byte(h), []byte("a:b ž")) != nil {
		t.Errorf("%s, %v", h, err)
	}
}
