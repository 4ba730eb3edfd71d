// Package wiretest has what the tests of both protocols need: certificates, and a service
// over any store, whose session resumes broken puts.
package wiretest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"sync"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// Certificate makes a self-signed certificate.
func Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Fingerprint names a certificate.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// TLS gives both ends of a connection, and the fingerprint of the client's certificate.
func TLS(t testing.TB) (server, client *tls.Config, fingerprint string) {
	t.Helper()
	own := Certificate(t)
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	server = &tls.Config{Certificates: []tls.Certificate{Certificate(t)}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	client = &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	return server, client, Fingerprint(leaf)
}

// Service serves one store to the owner with one certificate.
type Service struct {
	Fingerprint string
	Owner       store.OwnerID
	Store       store.Store
	// Tap, unless nil, hears each byte count that a put receives.
	Tap func(n int)

	mu    sync.Mutex
	parts map[store.CrateID]*bytes.Buffer
	fence store.Token
	mount store.Token // of whoever called last
}

// Mount is the token that whoever called last has shown.
func (s *Service) Mount() store.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mount
}

var _ wire.Service = (*Service)(nil)

// Session is wire.Service's.
func (s *Service) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	s.mu.Lock()
	s.mount = mount
	s.mu.Unlock()
	if fingerprint != s.Fingerprint {
		return nil, &store.Error{Kind: store.Denied, Op: "open a session"}
	}
	return &session{Store: s.Store, s: s}, nil
}

// Redeem takes the secret "right".
func (s *Service) Redeem(_ context.Context, r wire.Redeem, fingerprint string) (wire.Redeemed, error) {
	if string(r.Secret) != "right" {
		return wire.Redeemed{}, &store.Error{Kind: store.Denied, Op: "redeem an invite"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Fingerprint = fingerprint
	return wire.Redeemed{Leaf: store.NodeID{1}, Quota: 7}, nil
}

type session struct {
	store.Store
	s *Service
}

// Close leaves the store to others.
func (s *session) Close() error { return nil }

// OpenUnverified gives what the store has, checked or not.
func (s *session) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return store.OpenUnverified(ctx, s.Store, id, offset, length)
}

func (s *session) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	r.Holder = s.s.Owner
	return s.Store.Reserve(ctx, r)
}

// Put keeps what came of a broken attempt, in whole blocks, and asks for the rest if it is
// told, as a host wants it, what the bytes are to become.
func (s *session) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if r.Expect == nil {
		s.s.mu.Lock()
		delete(s.s.parts, r.Crate)
		s.s.mu.Unlock()
	}
	r.Source = &resuming{s: s.s, r: r, from: r.Source}
	receipts, err := s.Store.Put(ctx, r)
	if err == nil || errors.Is(err, store.Corrupt) {
		s.s.mu.Lock()
		delete(s.s.parts, r.Crate)
		s.s.mu.Unlock()
	}
	return receipts, err
}

func (s *session) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	for i, r := range rs {
		out[i].Receipts, out[i].Err = s.Store.Put(ctx, r)
	}
	return out
}

func (s *session) Fence(_ context.Context, known []store.Token, next store.Token, takeOver bool) error {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	ok := takeOver || s.s.fence == store.Token{}
	for _, k := range known {
		ok = ok || k == s.s.fence
	}
	if !ok {
		return &store.Error{Kind: store.Conflict, Op: "fence"}
	}
	s.s.fence = next
	return nil
}

// Events gives two and then waits.
func (s *session) Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error {
	for i := range uint64(2) {
		if err := give(wire.Event{Cursor: wire.Cursor{Incarnation: "one", Sequence: after.Sequence + i + 1}, Kind: wire.EventAlive}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// resuming is a source that keeps what it gave.
type resuming struct {
	s    *Service
	r    store.PutRequest
	from store.Source
}

func (r *resuming) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	r.s.mu.Lock()
	if r.s.parts == nil {
		r.s.parts = make(map[store.CrateID]*bytes.Buffer)
	}
	part := r.s.parts[r.r.Crate]
	if part == nil {
		part = new(bytes.Buffer)
		r.s.parts[r.r.Crate] = part
	}
	r.s.mu.Unlock()
	whole := int64(part.Len()) / store.BlockSize * store.BlockSize
	part.Truncate(int(whole))
	rest, err := r.from.OpenAt(ctx, whole)
	if err != nil {
		return nil, err
	}
	kept := bytes.NewReader(bytes.Clone(part.Bytes()[min(offset, whole):]))
	return &both{Reader: io.MultiReader(kept, io.TeeReader(rest, tap{part, r.s.Tap})), Closer: rest}, nil
}

type both struct {
	io.Reader
	io.Closer
}

type tap struct {
	*bytes.Buffer
	hear func(int)
}

func (t tap) Write(p []byte) (int, error) {
	if t.hear != nil {
		t.hear(len(p))
	}
	return t.Buffer.Write(p)
}
