package peerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/peer/grpcpeer"
	"stasis/peer/guard"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/store"
)

// Served is an address at which a peer serves a protocol.
type Served struct {
	Protocol string // grpc or http
	Address  string // as it listens: the host may be a wildcard
}

// server is what both protocols' servers are.
type server interface {
	Serve(net.Listener) error
	Drain(context.Context)
	Close()
}

// running is a server that serves.
type running struct {
	Served
	server server
}

// Serve listens and serves the vaults. Each address may be empty: that protocol is not
// served. It returns once connections are taken, with the addresses as they came to be;
// failed hears of a server that ended by itself.
func (p *Peer) Serve(grpc, http string, failed func(error)) ([]Served, error) {
	tls, err := p.identity.ServerTLS()
	if err != nil {
		return nil, err
	}
	memory := guard.NewLanes(memoryAnOwner*guard.Owners+memoryPool, memoryAnOwner, guard.Owners)
	var served []Served
	var listeners []net.Listener
	for _, s := range []Served{{config.KindGRPC, grpc}, {config.KindHTTP, http}} {
		if s.Address == "" {
			continue
		}
		l, err := listen(s)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close() // nobody came
			}
			p.servers = nil
			return nil, err
		}
		s.Address = l.Addr().String()
		r := running{Served: s}
		if s.Protocol == config.KindGRPC {
			r.server = grpcpeer.NewServer(grpcpeer.Options{Service: &p.keeper.gate, TLS: tls, Fingerprint: identity.FingerprintOf, Log: p.log, Memory: memory})
		} else {
			r.server = httppeer.NewServer(httppeer.Options{Service: &p.keeper.gate, TLS: tls, Fingerprint: identity.FingerprintOf, Log: p.log, Memory: memory})
		}
		p.servers, listeners, served = append(p.servers, r), append(listeners, l), append(served, s)
	}
	if err := p.recordServed(served); err != nil {
		p.log.WithError(err).Warn("where this peer listens was not written down; invites that are made while it does not run need --address")
	}
	for i, r := range p.servers {
		p.serving.Go(func() {
			if err := r.server.Serve(listeners[i]); err != nil && p.ctx.Err() == nil {
				failed(fmt.Errorf("serve %s at %s: %w", r.Protocol, r.Address, err))
			}
		})
	}
	return served, nil
}

func listen(s Served) (net.Listener, error) {
	l, err := net.Listen("tcp", s.Address)
	if err == nil {
		return l, nil
	}
	e := &store.Error{Kind: store.Unavailable, Op: "listen for " + s.Protocol, Subject: "at " + s.Address, Err: err}
	var addr *net.AddrError
	var dns *net.DNSError
	if errors.As(err, &addr) || errors.As(err, &dns) {
		e.Kind, e.Hint = store.Invalid, "give it as HOST:PORT, like 0.0.0.0:7440"
	}
	return nil, e
}

// drain ends the servers, after what is under way or when ctx ends; the channel is closed
// when it is done.
func (p *Peer) drain(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, r := range p.servers {
		all.Go(func() { r.server.Drain(ctx) })
	}
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// Fingerprint is the peer's, by which vaults know it.
func (p *Peer) Fingerprint() string { return p.identity.Fingerprint() }

// recordServed writes down where the peer listens.
func (p *Peer) recordServed(all []Served) error {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s %s\n", s.Protocol, s.Address)
	}
	return config.Write(filepath.Join(p.o.State, servedName), []byte(b.String()))
}

// served is where the peer listens, or where it did when it ran last.
func (p *Peer) served() []Served {
	var all []Served
	for _, r := range p.servers {
		all = append(all, r.Served)
	}
	if all != nil {
		return all
	}
	raw, err := mounts.ReadFile(filepath.Join(p.o.State, servedName), statedir.MaxNote)
	if err != nil {
		return nil // it never ran
	}
	for line := range strings.Lines(string(raw)) {
		protocol, address, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, _, err := net.SplitHostPort(address); err == nil && address == store.Printable(address, invite.MaxAddress) && (protocol == config.KindGRPC || protocol == config.KindHTTP) {
			all = append(all, Served{protocol, address})
		}
	}
	return all
}
