package httppeer

import (
	"bytes"
	"context"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
	"stasis/store/memory"
)

// signed is a service that wants its signatures.
type signed struct {
	*wiretest.Service
	owner atomic.Pointer[store.OwnerID]
}

func (s *signed) Redeem(ctx context.Context, r wire.Redeem, fingerprint string) (wire.Redeemed, error) {
	if err := identity.VerifyRedeem(r.Owner, r.Secret, fingerprint, r.Signature); err != nil {
		return wire.Redeemed{}, err
	}
	s.owner.Store(&r.Owner)
	return s.Service.Redeem(ctx, wire.Redeem{Secret: []byte("right")}, fingerprint)
}

func (s *signed) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	v, err := s.Service.Session(fingerprint, mount)
	if err != nil {
		return nil, err
	}
	return &signedSession{view: v, owner: *s.owner.Load()}, nil
}

type signedSession struct {
	view
	owner store.OwnerID
}

func (s *signedSession) Discard(ctx context.Context, r store.DiscardRequest) error {
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	if err := identity.VerifyDiscard(s.owner, r.Crate, st.Leaf, r.Signature); err != nil {
		return err
	}
	return s.view.Discard(ctx, r)
}

// examples are the commands in FORMAT.md.
func examples(t *testing.T) string {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, part := range strings.Split(string(text), "```") {
		if script, ok := strings.CutPrefix(part, "bash\n"); ok && i%2 == 1 {
			b.WriteString(script)
		}
	}
	return b.String()
}

// What FORMAT.md tells people to type works as it is printed.
func TestCurl(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	serverTLS, _, _ := wiretest.TLS(t)
	service := &signed{Service: &wiretest.Service{Store: newMemory(t, memory.Options{}, 256<<20)}}
	s := NewServer(Options{Service: service, TLS: serverTLS, Fingerprint: identity.FingerprintOf, Log: quiet()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	leaf, err := x509.ParseCertificate(serverTLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script := examples(t)
	if strings.Count(script, "peer ") < 20 {
		t.Fatalf("FORMAT.md has few examples:\n%s", script)
	}
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PEER="+l.Addr().String(), "FINGERPRINT="+identity.FingerprintOf(leaf))
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("it stands at ")) {
		t.Errorf("%v:\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
