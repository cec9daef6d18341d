package acl

import (
	"strings"
	"testing"
)

const zone = `; a zone
$TTL 1h
$ORIGIN rpz.test.
@  IN SOA ns.test. hostmaster.test. (
      2026010101 ; serial
      1h 10m 30d 2h )
   IN NS ns.test.
Bad.test          CNAME .
*.bad.test        CNAME .
only.test   300   IN CNAME *.
*.below.test      CNAME rpz-drop.
deep.ok.bad.test  CNAME .
ok.bad.test       CNAME rpz-passthru.
*.ok.bad.test     CNAME rpz-passthru.
*.free.below.test CNAME rpz-passthru.
absolute.test.rpz.test. CNAME .
sink.test         A 0.0.0.0
                  AAAA ::
24.0.2.0.192.rpz-ip     CNAME .
32.zz.db8.2001.rpz-ip   CNAME .
garden.test       CNAME walled.test.
web.test          A 192.0.2.1
text.test         TXT "a ; b ( c"
8.0.0.0.10.rpz-client-ip CNAME .
ns.evil.test.rpz-nsdname CNAME .
24.0.100.51.198.rpz-ip  CNAME rpz-passthru.
33.0.2.0.192.rpz-ip     CNAME .
$INCLUDE more
tcp.test          CNAME rpz-tcp-only.
a..test           CNAME .
`

func TestAResponsePolicyZoneIsAList(t *testing.T) {
	c := Config{Default: "allow", Lists: map[string]ListConfig{"l": {Files: []string{"z"}}}, Rules: []RuleConfig{{Name: "r", To: []string{"list:l"}, Action: "deny"}}}
	e := compile(t, c, files{"z": zone})
	for host, want := range map[string]Action{
		"bad.test": Deny, "x.bad.test": Deny, "ok.bad.test": Allow, "x.ok.bad.test": Allow, "deep.ok.bad.test": Deny, "x.deep.ok.bad.test": Allow,
		"only.test": Deny, "x.only.test": Allow, "below.test": Allow, "x.below.test": Deny, "free.below.test": Deny, "x.free.below.test": Allow,
		"absolute.test": Deny, "sink.test": Deny, "garden.test": Allow, "web.test": Allow, "text.test": Allow, "ns.test": Allow, "tcp.test": Allow,
		"192.0.2.7": Deny, "2001:db8::7": Deny, "198.51.100.1": Allow, "10.0.0.1": Allow,
	} {
		r := ask("10.0.0.1", host)
		if !r.HostAddr.IsValid() {
			r = at(r, "203.0.113.1")
		}
		if v := e.Decide(r); v.Action != want {
			t.Errorf("%s: %+v", host, v)
		}
	}
	same(t, lines(e.Warnings()), `acl.lists.l.files[0]: z: 10 lines are left out, the first is line 21: the answer "walled.test." is more than a list can say`+"\n")
}

func TestWhatIsAZoneShowsAtItsHead(t *testing.T) {
	for text, want := range map[string]bool{
		zone: true, "\n;x\n@ 300 IN SOA a. b. 1 2 3 4 5\n": true, "@ SOA a. b. 1 2 3 4 5\n": true, "$origin a.\n": true,
		"a.test\n": false, "": false, "# $TTL\n": false, "soa\n": false, "0.0.0.0 a b soa\n": false, "0.0.0.0 soa\n": false, "a.test\n$TTL 1\n": false,
	} {
		if isZone(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func FuzzZone(f *testing.F) {
	f.Add(zone)
	f.Add("$TTL 1\n@ SOA (\na ) )\n*.x CNAME .\n\"")
	f.Add("$ORIGIN .\n1.zz.zz.rpz-ip A ::1\n. CNAME .")
	f.Fuzz(func(t *testing.T, text string) {
		z, s := &zoneReader{}, &set{}
		var all []entry
		for line := range strings.SplitSeq(text, "\n") {
			e, ok, bad := z.line(line)
			if ok && (bad != nil || e.name == "" && !e.prefix.IsValid() || e.below || e.except && e.prefix.IsValid()) {
				t.Fatalf("%q: %+v, %v", line, e, bad)
			}
			if ok {
				s.add(e)
				all = append(all, e)
			}
		}
		s.seal()
		for _, e := range all {
			if !e.except && !s.covers(e) {
				t.Fatalf("the set lacks %q", e)
			}
		}
	})
}
