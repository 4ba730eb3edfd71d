package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/peer/wire"
	"stasis/store"
)

// revokedWithin is how long what a revoked owner holds may stay: what is under way hears of it
// at once, idle connections are looked at every second, and what was amid something is looked
// after every few.
const revokedWithin = 10 * time.Second

// told is a remote that tells what it was not asked.
type told interface {
	Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error
}

// A revoked owner keeps nothing but his crates: no connection, used or not, no stream, no space,
// no upload, no memory.
func TestPeerRevokedKeepsNothing(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			p := harness.NewPeer(t)
			p.Start()
			s := newSiege(t, p)
			s.revoke(t, protocol)
			p.Stop()
		})
	}
}

func (s *siege) revoke(t *testing.T, protocol string) {
	p := s.p
	stays := newOwner(t, p, protocol)
	if err := putAndRead(t, p, stays, protocol); err != nil {
		t.Fatal(err)
	}
	before := p.Status()
	rested := usage(t, p)

	goes := newOwner(t, p, protocol)
	grant := store.NewReservationID()
	if err := errors.Join(goes.reserve(grant, 256<<20, time.Hour), goes.reserve(store.NewReservationID(), 64<<20, time.Hour)); err != nil {
		t.Fatal(err)
	}
	config, err := goes.id.ClientTLS(p.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	address := p.HTTP
	if protocol == "grpc" {
		address, config.NextProtos = p.GRPC, []string{"h2"}
	}
	// Connections that only lie there, and that the peer knows to be the owner's.
	var idle []net.Conn
	for range 3 {
		c, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if protocol == "grpc" {
			if _, err := newRawGRPC(c, 65535, false); err != nil {
				t.Fatal(err)
			}
		} else if _, err := io.WriteString(c, "GET /v1/alive HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	streams := make(chan error, 2)
	heard := make(chan struct{}, 2)
	for range 2 {
		go func() {
			streams <- goes.remote.(told).Events(t.Context(), wire.Cursor{}, func(wire.Event) error {
				select {
				case heard <- struct{}{}:
				default:
				}
				return nil
			})
		}()
		<-heard
	}
	// Uploads amid which nothing comes any more.
	uploads, goOn := make(chan error, 3), make(chan struct{})
	for n := range cap(uploads) {
		r := putRequest(grant, store.NewCrateID(), uint64(n), 24<<20)
		src := &stalls{Source: r.Source, after: 10 << 20, reached: make(chan struct{}), end: goOn}
		r.Source = src
		go func() {
			_, err := goes.Put(t.Context(), r)
			uploads <- err
		}()
		select {
		case <-src.reached:
		case <-time.After(callLimit):
			t.Fatal("an upload has not got anywhere")
		}
	}
	harness.Eventually(t, callLimit, "uploads in the spool", func() (bool, string) {
		n := spooled(t, p)
		return n == cap(uploads), fmt.Sprint(n)
	})

	p.OK("peer", "revoke", p.State, goes.id.Owner().String())
	start := time.Now()
	for range cap(streams) {
		within(t, start, "stream", streams)
	}
	for i, c := range idle {
		if err := c.SetReadDeadline(start.Add(revokedWithin)); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, c)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("idle connection %d is still open %s after its owner was revoked", i, revokedWithin)
		}
	}
	harness.Eventually(t, revokedWithin, "no upload in the spool", func() (bool, string) {
		n := spooled(t, p)
		return n == 0, fmt.Sprint(n)
	})
	harness.Eventually(t, revokedWithin, "the space free again", func() (bool, string) {
		now := p.Status()
		return now.Nodes[0].Reserved == before.Nodes[0].Reserved && now.Nodes[0].Bytes == before.Nodes[0].Bytes, fmt.Sprintf("%+v, before %+v", now.Nodes[0], before.Nodes[0])
	})
	took := time.Since(start)
	close(goOn) // a vault hears of the end when it sends more
	for range cap(uploads) {
		within(t, time.Now(), "upload", uploads)
	}
	if err := stays.admit(); err != nil {
		t.Errorf("another owner: %v", err)
	}
	if err := putAndRead(t, p, stays, protocol); err != nil {
		t.Errorf("another owner: %v", err)
	}
	goes.Close()
	harness.Eventually(t, tidiedWithin, "connections gone and memory back", func() (bool, string) {
		u := usage(t, p)
		return u.Sockets <= rested.Sockets && u.Resident <= rested.Resident+tidiedTo,
			fmt.Sprintf("%d sockets and %.0f MiB, there were %d and %.0f", u.Sockets, mib(u.Resident), rested.Sockets, mib(rested.Resident))
	})
	t.Logf("over %s nothing was left after %s", protocol, took.Round(time.Millisecond))
}

// within waits for the end of something that a revoked owner had under way.
func within(t *testing.T, start time.Time, what string, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil {
			t.Errorf("a %s of a revoked owner ended well", what)
		}
	case <-time.After(time.Until(start.Add(revokedWithin))):
		t.Fatalf("a %s goes on %s after its owner was revoked", what, revokedWithin)
	}
}

// spooled is how many files lie in the peer's spools.
func spooled(t *testing.T, p *harness.Peer) (n int) {
	t.Helper()
	err := filepath.WalkDir(p.State, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && filepath.Base(filepath.Dir(path)) == "spool" {
			n++
		}
		if errors.Is(err, os.ErrNotExist) { // gone meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// stalls is a source of which nothing comes after so many bytes.
type stalls struct {
	store.Source
	after   int64
	reached chan struct{}
	end     <-chan struct{}
	opened  atomic.Bool
}

// OpenAt is store.Source's.
func (s *stalls) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	return &stalling{ReadCloser: rc, s: s, ctx: ctx, left: s.after - offset}, nil
}

type stalling struct {
	io.ReadCloser
	s    *stalls
	ctx  context.Context
	left int64
}

func (r *stalling) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if r.s.opened.CompareAndSwap(false, true) {
			close(r.s.reached)
		}
		select {
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		case <-r.s.end:
			return r.ReadCloser.Read(p)
		}
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}
