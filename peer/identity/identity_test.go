package identity

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/store"
)

var makeGolden = flag.Bool("golden", false, "write the golden files of a new version")

// A key written by the first release must give the same owner, sealing and TLS
// keys for ever: otherwise an upgrade loses the vault.
func TestGolden(t *testing.T) {
	if *makeGolden {
		writeGolden(t)
	}
	text, err := os.ReadFile("testdata/v1.key")
	if err != nil {
		t.Fatal(err)
	}
	i, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/v1.derived")
	if err != nil {
		t.Fatal(err)
	}
	if got := derived(i); got != string(want) {
		t.Errorf("derived from v1.key:\n%swant:\n%s", got, want)
	}
	if got := string(i.Text()); got != string(text) {
		t.Errorf("text written again:\n%swant:\n%s", got, text)
	}
}

func writeGolden(t *testing.T) {
	if _, err := os.Stat("testdata/v1.key"); err == nil {
		t.Fatal("the golden files of a version are never made again")
	}
	i := New()
	if err := os.WriteFile("testdata/v1.key", i.Text(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/v1.derived", []byte(derived(i)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func derived(i Identity) string {
	seal := i.SealingKey()
	return fmt.Sprintf("owner %s\nseal %s\ntls %s\n", i.Owner(), hex.EncodeToString(seal[:]), hex.EncodeToString(i.TLSKey().Seed()))
}

func TestDerivationsDiffer(t *testing.T) {
	i, j := New(), New()
	seal := i.SealingKey()
	keys := map[string]bool{}
	for _, k := range [][]byte{i.OwnerKey().Seed(), i.TLSKey().Seed(), seal[:], i.secret[:], j.OwnerKey().Seed()} {
		keys[string(k)] = true
	}
	if len(keys) != 5 {
		t.Error("two derived keys are the same")
	}
}

// A person reads the text from paper: what they do to its looks is forgiven.
func TestParseForgivesLooks(t *testing.T) {
	i := New()
	text := string(i.Text())
	for name, typed := range map[string]string{
		"upper case":    strings.ToUpper(text),
		"no dashes":     textPrefix + " " + strings.ReplaceAll(line(text), "-", ""),
		"spaces":        textPrefix + " " + strings.ReplaceAll(line(text), "-", " "),
		"no comments":   textPrefix + " " + line(text),
		"windows lines": strings.ReplaceAll(text, "\n", "\r\n"),
	} {
		got, err := Parse([]byte(typed))
		if err != nil || got != i {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// line is the letters of a text, without what stands before them.
func line(text string) string {
	_, letters, _ := strings.Cut(text, textPrefix+" ")
	return strings.TrimSpace(letters)
}

// Each single wrong letter must be noticed: a wrong key is a vault that
// can't be read any more.
func TestParseNoticesDamage(t *testing.T) {
	letters := line(string(New().Text()))
	for n := range letters {
		if letters[n] == '-' {
			continue
		}
		wrong := byte('a')
		if letters[n] == 'a' {
			wrong = 'b'
		}
		damaged := letters[:n] + string(wrong) + letters[n+1:]
		if _, err := Parse([]byte(textPrefix + " " + damaged)); !errors.Is(err, store.Corrupt) {
			t.Fatalf("letter %d wrong: %v", n, err)
		}
	}
	for name, c := range map[string]struct {
		text string
		kind store.Kind
	}{
		"empty":         {"", store.Corrupt},
		"comments only": {textHeader, store.Corrupt},
		"cut":           {textPrefix + " " + letters[:40], store.Corrupt},
		"doubled":       {textPrefix + " " + letters + letters, store.Corrupt},
		"two lines":     {textPrefix + " " + letters + "\n" + letters, store.Corrupt},
		"newer":         {"stasis-key-2 " + letters, store.Invalid},
		"not a key":     {"-----BEGIN RSA PRIVATE KEY-----", store.Corrupt},
		"bad letter":    {textPrefix + " " + "0" + letters[1:], store.Corrupt},
		"huge":          {strings.Repeat("#", maxText+1), store.Corrupt},
	} {
		if _, err := Parse([]byte(c.text)); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
		} else if strings.Contains(err.Error(), letters[:8]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if _, err := Load(path); !errors.Is(err, store.NotFound) {
		t.Errorf("load of a missing key: %v", err)
	}
	i := New()
	if err := Create(path, i); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v %v", info.Mode(), err)
	}
	if got, err := Load(path); err != nil || got != i {
		t.Errorf("load: %v", err)
	}
	if err := Create(path, New()); !errors.Is(err, store.Conflict) {
		t.Errorf("a second key over the first: %v", err)
	}
	if got, err := Load(path); err != nil || got != i {
		t.Errorf("the key changed under a refused create: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the key: %v %v", entries, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, store.Denied) {
		t.Errorf("a key that others may read: %v", err)
	}
}

func TestNothingPrintsTheSecret(t *testing.T) {
	i := New()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, i); got != i.String() {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New().Text())
	f.Add([]byte("stasis-key-1 aaaaaaaa"))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := Parse(text)
		if err != nil {
			if store.KindOf(err) == 0 {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		if again, err := Parse(i.Text()); err != nil || again != i {
			t.Errorf("not read back: %v", err)
		}
	})
}

// A key that is no file of its own is refused, and not waited for: it may lie in a directory of
// another user's.
func TestLoadWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe, link, key := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "key")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(key, link), Create(key, New())); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, dir} {
		done := make(chan error, 1)
		go func() { _, err := Load(path); done <- err }()
		select {
		case err := <-done:
			if !errors.Is(err, store.Invalid) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s is waited for", path)
		}
	}
}
