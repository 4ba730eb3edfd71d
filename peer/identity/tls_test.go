package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"stasis/store"
)

// handshake runs a client against a server over a pipe and gives what each made of it.
func handshake(t *testing.T, server, client *tls.Config) (sawClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = io.WriteString(s, "welcome")
		}
		_ = a.Close()
		done <- err
	}()
	// In TLS 1.3 a client learns only by its first read that it was refused.
	got, clientErr := io.ReadAll(c)
	if clientErr == nil || errors.Is(clientErr, io.ErrUnexpectedEOF) {
		clientErr = nil
		if string(got) != "welcome" {
			clientErr = fmt.Errorf("read %q", got)
		}
	}
	_ = b.Close()
	return s.ConnectionState(), <-done, clientErr
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHandshake(t *testing.T) {
	peer, vault := New(), New()
	state, serverErr, clientErr := handshake(t, must(peer.ServerTLS()), must(vault.ClientTLS(peer.Fingerprint())))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("server %v, client %v", serverErr, clientErr)
	}
	if state.Version != tls.VersionTLS13 {
		t.Errorf("version %x", state.Version)
	}
	if got, err := PeerFingerprint(state); err != nil || got != vault.Fingerprint() {
		t.Errorf("the server saw %s, %v; want %s", got, err, vault.Fingerprint())
	}
	if _, err := PeerFingerprint(tls.ConnectionState{}); !errors.Is(err, store.Denied) {
		t.Errorf("nobody's fingerprint: %v", err)
	}
}

// Another machine at the address of the peer gets nothing, not even a handshake.
func TestWrongPin(t *testing.T) {
	peer, vault, other := New(), New(), New()
	_, serverErr, clientErr := handshake(t, must(other.ServerTLS()), must(vault.ClientTLS(peer.Fingerprint())))
	if !errors.Is(clientErr, store.Denied) {
		t.Errorf("client: %v, want denied", clientErr)
	}
	if serverErr == nil {
		t.Error("the server took a client that had refused it")
	}
}

func TestRefusedHandshakes(t *testing.T) {
	peer, vault := New(), New()
	none := must(vault.ClientTLS(peer.Fingerprint()))
	none.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	old := must(vault.ClientTLS(peer.Fingerprint()))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	foreign := must(vault.ClientTLS(peer.Fingerprint()))
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	foreign.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
	for name, c := range map[string]*tls.Config{"no certificate": none, "TLS 1.2": old, "another kind of key": foreign} {
		if _, serverErr, clientErr := handshake(t, must(peer.ServerTLS()), c); serverErr == nil || clientErr == nil {
			t.Errorf("%s: server %v, client %v", name, serverErr, clientErr)
		}
	}
	if _, err := vault.ClientTLS("nonsense"); !errors.Is(err, store.Invalid) {
		t.Errorf("a pin that is none: %v", err)
	}
}

// A vault that restarts must be the same to its peers, and so must one whose key was
// made by the first release.
func TestCertificateStays(t *testing.T) {
	i := must(Parse(must(os.ReadFile("testdata/v1.key"))))
	a, b := must(i.Certificate()), must(i.Certificate())
	if !bytes.Equal(a.Certificate[0], b.Certificate[0]) {
		t.Error("two certificates of one identity differ")
	}
	if got := FingerprintOf(a.Leaf); got != i.Fingerprint() || len(got) != FingerprintSize {
		t.Errorf("the certificate has fingerprint %s, the identity %s", got, i.Fingerprint())
	}
	got := fmt.Sprintf("fingerprint %s\ndiscard %x\nredeem %x\n", i.Fingerprint(),
		i.SignDiscard(store.CrateID{1}, store.NodeID{2}), i.SignRedeem([]byte("sixteen bytes ab"), i.Fingerprint()))
	const path = "testdata/v1.signed"
	if *makeGolden {
		if _, err := os.Stat(path); err == nil {
			t.Fatal("the golden files of a version are never made again")
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(must(os.ReadFile(path))); got != want {
		t.Errorf("v1.key gives\n%swant\n%s", got, want)
	}
}

func TestFingerprintText(t *testing.T) {
	f := New().Fingerprint()
	for _, text := range []string{f, strings.ToUpper(f), " " + f + "\n"} {
		if sum, err := ParseFingerprint(text); err != nil || FormatFingerprint(sum) != f {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", f[1:], f + "a", "0" + f[1:], f[:51] + "b"} {
		if sum, err := ParseFingerprint(text); err == nil && FormatFingerprint(sum) != text || err != nil && !errors.Is(err, store.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSignatures(t *testing.T) {
	i, j := New(), New()
	crate, leaf, secret := store.NewCrateID(), store.NewNodeID(), []byte("sixteen bytes ab")
	discard, redeem := i.SignDiscard(crate, leaf), i.SignRedeem(secret, i.Fingerprint())
	if err := VerifyDiscard(i.Owner(), crate, leaf, discard); err != nil {
		t.Error(err)
	}
	if err := VerifyRedeem(i.Owner(), secret, i.Fingerprint(), redeem); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another crate":       VerifyDiscard(i.Owner(), store.NewCrateID(), leaf, discard),
		"another leaf":        VerifyDiscard(i.Owner(), crate, store.NewNodeID(), discard),
		"another owner":       VerifyDiscard(j.Owner(), crate, leaf, discard),
		"no owner":            VerifyDiscard(store.OwnerID{}, crate, leaf, discard),
		"no signature":        VerifyDiscard(i.Owner(), crate, leaf, nil),
		"a redemption":        VerifyDiscard(i.Owner(), crate, leaf, redeem),
		"another secret":      VerifyRedeem(i.Owner(), []byte("sixteen bytes ac"), i.Fingerprint(), redeem),
		"another certificate": VerifyRedeem(i.Owner(), secret, j.Fingerprint(), redeem),
		"another's invite":    VerifyRedeem(j.Owner(), secret, i.Fingerprint(), redeem),
		"a discard":           VerifyRedeem(i.Owner(), secret, i.Fingerprint(), discard),
	} {
		if !errors.Is(err, store.Denied) {
			t.Errorf("%s: %v, want denied", name, err)
		}
	}
}
