package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/control"
	"stasis/cmd/internal/peerd"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/terminal"
	"stasis/cmd/internal/vault"
	"stasis/store"
)

const (
	// changeLimit is how long a vault is waited for that is just being opened or closed.
	changeLimit = 15 * time.Second
	// changePoll is how often it is tried.
	changePoll = 50 * time.Millisecond
	// openLimit is how long root waits for the opening of what is another user's.
	openLimit = 2 * time.Minute
)

// question is one request to a vault.
type question struct {
	op       string
	args     any
	result   any
	progress func(json.RawMessage) error
	// quick: the daemon answers from what it knows, so MaxSilence bounds the whole.
	quick bool
	// alone says how to answer where no daemon runs.
	alone alone
}

// alone is what a command does for a vault that nobody serves.
type alone int

const (
	refuse  alone = iota // it needs a mount
	look                 // opens the vault without changing anything
	operate              // opens the vault
)

// ask puts a question to the daemon of a vault, or answers it in this process where
// none runs.
func (t target) ask(ctx context.Context, q question) error {
	bound := time.Duration(0)
	if q.quick {
		bound = control.MaxSilence
	}
	end := time.Now().Add(changeLimit)
	for {
		err := t.daemon().Call(ctx, q.op, bound, q.args, q.result, q.progress)
		if errors.Is(err, control.ErrOtherMount) {
			return fmt.Errorf("the daemon of the vault does not serve what is mounted at %s, which a killed daemon left; clear it with `stasis umount %[1]s`, and see with `stasis list` where the vault is", t.mount.Point)
		}
		if !errors.Is(err, control.ErrNoDaemon) {
			return err
		}
		if !statedir.Locked(t.state) {
			break
		}
		// A daemon that starts, one that ends, or another command.
		if time.Now().After(end) {
			return fmt.Errorf("the %s %s is in use and does not answer; see stasis.log in %s", t.kind(), t.name(), t.state)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(changePoll):
		}
	}
	switch {
	case t.mounted() && q.alone != look:
		return fmt.Errorf("the daemon of %s has ended without unmounting; mount it again with stasis-mount, or clear it with `stasis umount %s`", t.name(), t.mount.Point)
	case q.alone == refuse:
		return fmt.Errorf("the vault %s is not mounted; mount it first with stasis-mount", t.name())
	}
	return t.askHere(ctx, q)
}

// service is an open vault or peer.
type service interface {
	control.Handler
	Close(ctx context.Context) error
}

// open opens the vault or the peer in this process.
func (t target) open(ctx context.Context, q question, log logrus.FieldLogger) (service, error) {
	if !t.peer {
		return vault.Open(ctx, vault.Options{State: t.state, ReadOnly: q.alone == look, Log: log})
	}
	return peerd.Open(ctx, peerd.Options{State: t.state, Log: log})
}

// askHere answers in this process.
func (t target) askHere(ctx context.Context, q question) error {
	// Whatever is opened here, and left by it, is its owner's: root does nothing in the name of
	// another's settings.
	other, err := becomeOwner(t.state)
	if err != nil {
		return err
	}
	if !other {
		return t.answer(ctx, q, func() {})
	}
	return t.within(ctx, q, openLimit)
}

// within is answer for root, about what another user has chosen the paths of: his settings may
// name what never answers, in the kernel too. So the opening is bounded, as is a quick answer,
// and an interrupt ends the rest.
func (t target) within(ctx context.Context, q question, limit time.Duration) error {
	opened, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- t.answer(ctx, q, func() { close(opened) }) }() // ends with the answer; if the kernel holds that, with the process
	end := time.NewTimer(limit)
	defer end.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case <-opened:
			opened = nil
			if !q.quick {
				end.Stop()
			}
		case <-interrupted:
			interrupted = nil
			end.Reset(min(limit, changeLimit)) // to close what is open
		case <-end.C:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &store.Error{Kind: store.Unavailable, Op: "open", Subject: store.Printable(t.state, terminal.MaxLine),
				Detail: fmt.Sprintf("it gave no answer for %s: something that its settings or its files name hangs", limit), Hint: "have its owner look"}
		}
	}
}

// answer opens the vault or the peer, says so, and puts the question to it.
func (t target) answer(ctx context.Context, q question, opened func()) (err error) {
	log := logrus.New()
	log.SetOutput(io.Discard) // what matters comes back as errors and in the status
	v, err := t.open(ctx, q, log)
	if err != nil {
		return err
	}
	opened()
	defer func() {
		// The request's own context may be over; closing has a bound of its own.
		if closeErr := v.Close(context.WithoutCancel(ctx)); err == nil {
			err = closeErr
		}
	}()
	args, err := json.Marshal(q.args)
	if err != nil {
		return err
	}
	result, err := v.Handle(ctx, q.op, args, func(part any) error {
		if q.progress == nil {
			return nil
		}
		p, err := json.Marshal(part)
		if err != nil {
			return err
		}
		return q.progress(p)
	})
	if err != nil || q.result == nil {
		return err
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return control.Read(raw, q.result)
}
