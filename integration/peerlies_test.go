package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/integration/harness"
	"stasis/peer/grpcpeer"
	"stasis/peer/host"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/directory"
	"stasis/store/ledger"
)

const (
	// farDelay is how much later the answers of the honest peer come, so that the liar is
	// the nearer one: several times what the router takes for no difference.
	farDelay = 60 * time.Millisecond
	// farPiece is how many bytes are late together, and farPieces how many such pieces are
	// on their way at once.
	farPiece  = 64 << 10
	farPieces = 256
	// lieAt is the place in each block of the byte that is wrong.
	lieAt = store.BlockSize / 3
	// inheritedLock bounds how long a lock that was given up may be held by a process just begun.
	inheritedLock = 10 * time.Second
)

// A read goes on from the next place when the nearest begins to send wrong bytes amid it,
// though its own store finds nothing wrong: right to the byte, and soon. The log says
// whose copy it was, and the vault is whole once that peer is honest.
func TestPeerLiesAmidARead(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			v, l := besideLiar(t, protocol)
			size := int64(harness.Count(96, 1024)) << 20
			seed := harness.Seed(t)
			if err := harness.WriteFile(v.Path("large"), seed, size, false); err != nil {
				t.Fatal(err)
			}
			v.Wait(10 * time.Minute)
			everyFileHas(t, v, 2)
			v.Unmount()
			forgetLocal(t, v)
			v.Start()
			for _, node := range []string{"liar", "honest"} {
				eventuallyNode(t, v, node, "online")
			}
			l.readBeside(t, v, seed, size)
			l.lies.Store(false)
			drained(t, v, time.Duration(harness.Count(1, 5))*time.Minute)
			everyFileHas(t, v, 2)
			for _, n := range v.Status().Nodes {
				if told := strings.Contains(n.LastError, "answers were wrong"); told != (n.Name == "liar") {
					t.Errorf("of node %q the status says %q", n.Name, n.LastError)
				}
			}
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}

// readBeside reads a file while the liar begins to lie.
func (l *liar) readBeside(t *testing.T, v *harness.Vault, seed uint64, size int64) {
	var right int64
	slowest := readAlong(t, v.Path("large"), seed, size, func() {
		right = l.right.Load()
		l.lies.Store(true)
	})
	wrong := l.wrong.Load()
	t.Logf("%d MiB; the slowest read took %s; the liar gave %d right blocks, then %d wrong ones",
		size>>20, slowest.Round(time.Millisecond), right, wrong)
	if slowest > readLimit {
		t.Errorf("a read took %s, want at most %s", slowest, readLimit)
	}
	// It has to have been the nearest, or there was nothing to go on from.
	if read := size / 3 / store.BlockSize; right < read/2 || wrong == 0 {
		t.Errorf("of %d blocks read before it lied the liar gave %d, and %d then", read, right, wrong)
	}
	t.Logf("%s\n%s", v.OK("status", v.Point), v.OK("why", v.Path("large")))
	// A check that reads the bytes is not taken in by what the liar's own store says of them.
	// Whether it finds the wrong copy, or finds it struck off already, it counts the other alone.
	if r := v.Stasis("check", "--read", v.Point); strings.Contains(r.Stdout, "2 copies") {
		t.Errorf("a check amid the lies: %v", r)
	}
	// The log keeps whose copy it was: the store has it right, which ends the repair.
	const word = "a copy is damaged"
	if n, other := logged(t, v, word, "node=liar"), logged(t, v, word, "node=honest"); n == 0 || other > 0 {
		t.Errorf("the log says %d times that a copy at the liar is damaged, and %d times of the honest peer", n, other)
	} else {
		t.Logf("the log says %d times that a copy at the liar is damaged", n)
	}
}

// logged counts the lines of a vault's log that have all of the words.
func logged(t *testing.T, v *harness.Vault, words ...string) (n int) {
	t.Helper()
	for line := range strings.Lines(harness.Read(t, v.State, "stasis.log")) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

// besideLiar is a mounted vault whose places are a liar and, farther away, an honest peer.
func besideLiar(t *testing.T, protocol string) (*harness.Vault, *liar) {
	t.Helper()
	l, p := newLiar(t), harness.NewPeer(t)
	p.Start()
	address := fromAfar(t, p.GRPC)
	if protocol == "http" {
		address = "https://" + fromAfar(t, p.HTTP)
	}
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	v.OK("node", "add", v.Point, "liar", "peer", l.invite(t), "--protocol", protocol)
	addPeer(t, v, "honest", p, protocol, "--address", address)
	return v, l
}

// liar is a peer that keeps crates well and sends wrong bytes of them: one in each block,
// once it lies. What its store says of them is true.
type liar struct {
	*host.Host   // wire.Service, but for Session
	identity     identity.Identity
	grpc, http   string // where it serves
	lies         atomic.Bool
	right, wrong atomic.Int64 // blocks sent
}

var _ wire.Service = (*liar)(nil)

// newLiar makes a liar that serves until the test ends, and does not lie yet.
func newLiar(t *testing.T) *liar {
	t.Helper()
	l := &liar{identity: identity.New()}
	log := logrus.New()
	log.SetOutput(io.Discard)
	l.Host = openHost(t, l.identity, log)
	tls, err := l.identity.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	l.grpc = serve(t, grpcpeer.NewServer(grpcpeer.Options{Service: l, TLS: tls, Fingerprint: identity.FingerprintOf, Log: log}))
	l.http = serve(t, httppeer.NewServer(httppeer.Options{Service: l, TLS: tls, Fingerprint: identity.FingerprintOf, Log: log}))
	return l
}

// openHost makes what stasis-peer has behind its servers: a host over a directory, until
// the test ends.
func openHost(t *testing.T, id identity.Identity, log *logrus.Logger) *host.Host {
	t.Helper()
	dir := harness.Dir(t)
	closes := func(c io.Closer) {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Errorf("close what the liar stands on: %v", err)
			}
		})
	}
	node := filepath.Join(dir, "node")
	if _, err := directory.Create(node, id.Owner(), 0, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := directory.Open(t.Context(), node, store.NodeID{}, id.Owner(), directory.Options{Log: log})
	for end := time.Now().Add(inheritedLock); errors.Is(err, store.Conflict) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		// A command that another test is just starting has inherited the lock of its making.
		s, err = directory.Open(t.Context(), node, store.NodeID{}, id.Owner(), directory.Options{Log: log})
	}
	if err != nil {
		t.Fatal(err)
	}
	closes(s)
	db, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Small())
	if err != nil {
		t.Fatal(err)
	}
	closes(db)
	h, err := host.Open(t.Context(), host.Options{Ledger: db, Store: s, Spool: filepath.Join(dir, "spool"), Identity: id, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := bounded()
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("close the liar's host: %v", err)
		}
	})
	return h
}

// serve runs a server until the test ends, and gives where.
func serve(t *testing.T, s interface {
	Serve(net.Listener) error
	Close()
}) string {
	t.Helper()
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(n); err != nil {
			t.Errorf("the liar's server: %v", err)
		}
	})
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return n.Addr().String()
}

func (l *liar) invite(t *testing.T) string {
	t.Helper()
	in := invite.Invite{Fingerprint: l.identity.Fingerprint(), GRPC: []string{l.grpc}, HTTP: []string{l.http}}
	var err error
	if in.Secret, in.Expires, err = l.Invite(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	text, err := in.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Session is wire.Service's.
func (l *liar) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	s, err := l.Host.Session(fingerprint, mount)
	if err != nil {
		return nil, err
	}
	return liarSession{s, l}, nil
}

type liarSession struct {
	wire.Session
	l *liar
}

// Open is store.Store's, but for the bytes.
func (s liarSession) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	rc, err := s.Session.Open(ctx, id, offset, length)
	if err != nil {
		return nil, err
	}
	return &lie{ReadCloser: rc, l: s.l, at: offset}, nil
}

// lie is a range of a crate as the liar sends it.
type lie struct {
	io.ReadCloser
	l  *liar
	at int64 // of the next byte, in the crate
}

// Read changes one byte of each block, from when the liar lies on: that may be amid it.
func (r *lie) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	for i := (lieAt - r.at%store.BlockSize + store.BlockSize) % store.BlockSize; i < int64(n); i += store.BlockSize {
		if r.l.lies.Load() {
			p[i] ^= 1
			r.l.wrong.Add(1)
		} else {
			r.l.right.Add(1)
		}
	}
	r.at += int64(n)
	return n, err
}

// fromAfar is an address that leads to another, whose answers come late there.
func fromAfar(t *testing.T, address string) string {
	t.Helper()
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := n.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("take a connection: %v", err)
				}
				return
			}
			all.Go(func() {
				defer near.Close()
				far, err := net.Dial("tcp", address)
				if err != nil {
					return // the caller sees a connection that ends
				}
				defer far.Close()
				defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
				relay(near, far)
			})
		}
	})
	t.Cleanup(func() { n.Close(); cancel(); all.Wait() })
	return n.Addr().String()
}

// relay joins two connections until either ends. What far says is farDelay late, and as
// much comes as without that.
func relay(near, far net.Conn) {
	type piece struct {
		due     time.Time
		content []byte
	}
	pieces := make(chan piece, farPieces)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, near) // however it ends, it is the end of the other way too
		far.Close()
	})
	both.Go(func() {
		defer close(pieces)
		for {
			p := make([]byte, farPiece)
			k, err := far.Read(p)
			pieces <- piece{time.Now().Add(farDelay), p[:k]}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		time.Sleep(time.Until(p.due)) // this is the way, not a wait for something
		if _, err := near.Write(p.content); err != nil {
			far.Close() // the pieces end soon
		}
	}
	near.Close()
	both.Wait()
}
