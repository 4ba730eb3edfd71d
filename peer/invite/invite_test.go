package invite

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"stasis/peer/identity"
	"stasis/store"
)

var makeGolden = flag.Bool("golden", false, "write the golden file of a new version")

// sample is the invite of the golden file.
func sample() Invite {
	return Invite{
		Fingerprint: identity.FormatFingerprint([32]byte{0: 1, 31: 0xff}),
		GRPC:        []string{"basement.example:7400", "[2001:db8::1]:7400"},
		HTTP:        []string{"192.0.2.7:7443"},
		Secret:      [SecretSize]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Expires:     time.Unix(1793836800, 0).UTC(),
	}
}

func text(t testing.TB, i Invite) string {
	t.Helper()
	s, err := i.Text()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An invite that one release printed can be pasted into any later one.
func TestGolden(t *testing.T) {
	const path = "testdata/v1.invite"
	got := text(t, sample()) + "\n"
	if *makeGolden {
		if _, err := os.Stat(path); err == nil {
			t.Fatal("the golden file of a version is never made again")
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("written as\n%swant\n%s", got, want)
	}
	if i, err := Parse(string(want)); err != nil || !reflect.DeepEqual(i, sample()) {
		t.Errorf("read as %#v, %v", i, err)
	}
}

// It is mailed, dictated, wrapped and quoted before it is pasted.
func TestParseForgivesLooks(t *testing.T) {
	word := text(t, sample())
	var wrapped strings.Builder
	for i, r := range word {
		if i > 0 && i%60 == 0 {
			wrapped.WriteString("\r\n  ")
		}
		wrapped.WriteRune(r)
	}
	for name, s := range map[string]string{
		"upper case": strings.ToUpper(word), "wrapped": wrapped.String(), "quoted": `"` + word + "\"\n",
		"dashes": prefix + strings.Join(strings.SplitAfter(word[len(prefix):], "a"), "-"), "space": " \t" + word,
	} {
		if i, err := Parse(s); err != nil || !reflect.DeepEqual(i, sample()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each wrong letter, and each cut, is noticed: otherwise a wrong machine is dialled.
func TestParseNoticesDamage(t *testing.T) {
	word := text(t, sample())
	for n := len(prefix); n < len(word); n++ {
		wrong := "a"
		if word[n] == 'a' {
			wrong = "b"
		}
		for name, s := range map[string]string{"wrong": word[:n] + wrong + word[n+1:], "cut": word[:n]} {
			_, err := Parse(s)
			if !errors.Is(err, store.Corrupt) {
				t.Fatalf("letter %d %s: %v", n, name, err)
			}
			if strings.Contains(err.Error(), word[len(prefix):len(prefix)+60]) {
				t.Fatalf("the error shows the invite")
			}
		}
	}
	for s, kind := range map[string]store.Kind{
		"": store.Corrupt, "stasis-key-1 abc": store.Corrupt, "stasis-invite-2-abc": store.Invalid,
		prefix: store.Corrupt, prefix + "0": store.Corrupt, strings.Repeat("a", maxText+1): store.Corrupt,
	} {
		if _, err := Parse(s); !errors.Is(err, kind) {
			t.Errorf("%.30q: %v, want %v", s, err, kind)
		}
	}
}

func TestTextRefuses(t *testing.T) {
	for name, change := range map[string]func(*Invite){
		"no address":     func(i *Invite) { i.GRPC, i.HTTP = nil, nil },
		"many":           func(i *Invite) { i.HTTP = make([]string, MaxAddresses+1) },
		"no port":        func(i *Invite) { i.GRPC = []string{"host"} },
		"port 0":         func(i *Invite) { i.GRPC = []string{"host:0"} },
		"wildcard":       func(i *Invite) { i.GRPC = []string{"0.0.0.0:1"} },
		"wildcard 6":     func(i *Invite) { i.GRPC = []string{"[::]:1"} },
		"no host":        func(i *Invite) { i.GRPC = []string{":1"} },
		"control":        func(i *Invite) { i.GRPC = []string{"a\nb:1"} },
		"a raw C1":       func(i *Invite) { i.GRPC = []string{"a\x9b2J:1"} },
		"bidi":           func(i *Invite) { i.GRPC = []string{"a\u202eb:1"} },
		"of no width":    func(i *Invite) { i.GRPC = []string{"a\u3164b:1"} },
		"long":           func(i *Invite) { i.GRPC = []string{strings.Repeat("a", MaxAddress) + ":1"} },
		"no fingerprint": func(i *Invite) { i.Fingerprint = "" },
		"no end":         func(i *Invite) { i.Expires = time.Time{} },
	} {
		i := sample()
		change(&i)
		if _, err := i.Text(); !errors.Is(err, store.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestNothingPrintsTheSecret(t *testing.T) {
	i := sample()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, i); strings.Contains(s, hex.EncodeToString(i.Secret[:])) || !strings.HasPrefix(s, "invite of") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(text(f, sample()))
	f.Add(prefix + "aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := Parse(s)
		if err != nil {
			if store.KindOf(err) == 0 {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		again, err := i.Text()
		if err != nil {
			t.Fatalf("read, and can't be written: %v", err)
		}
		if j, err := Parse(again); err != nil || !reflect.DeepEqual(i, j) {
			t.Errorf("not read back: %v", err)
		}
	})
}

// What is behind the checksum is anybody's choice: decode is fuzzed by itself.
func FuzzDecode(f *testing.F) {
	b, err := letters.DecodeString(strings.TrimPrefix(text(f, sample()), prefix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-checkSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decode(b)
		if err != nil {
			return
		}
		if _, err := i.Text(); err != nil {
			t.Errorf("read, and can't be written: %v", err)
		}
	})
}
