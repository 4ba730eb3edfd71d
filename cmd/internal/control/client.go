package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// ErrNoDaemon says that nobody serves the vault of a state directory.
var ErrNoDaemon = errors.New("no daemon serves this vault")

// ErrOtherMount says that the daemon of a state directory serves another mount than the one
// that was asked about.
var ErrOtherMount = errors.New("the daemon serves another mount")

// errWentAway says that the daemon ended the exchange without an answer.
var errWentAway = errors.New("went away without an answer")

// Daemon is a state directory of which a daemon is asked, and perhaps its mount.
type Daemon struct {
	State string
	Mount string // the device number of the mount that is meant; "": whichever it serves
}

// Call is Daemon.Call for whatever the daemon serves.
func Call(ctx context.Context, state, op string, bound time.Duration, args, result any, progress func(json.RawMessage) error) error {
	return Daemon{State: state}.Call(ctx, op, bound, args, result, progress)
}

// Call sends one request to the daemon of a state directory and waits for its
// answer, which goes into result unless that is nil. Each part that comes ahead is
// given to progress, if there is one, which reads it with Read. bound is the most the whole exchange may take; 0: no
// bound, as long as the daemon shows that it lives. ErrNoDaemon if there is no daemon; ErrOtherMount
// if it serves another mount; Unavailable with its process id if it does not answer within
// MaxSilence. Errors of the other side keep their kind.
func (d Daemon) Call(ctx context.Context, op string, bound time.Duration, args, result any, progress func(json.RawMessage) error) error {
	start, state := time.Now(), d.State
	dialCtx, cancel := context.WithTimeout(ctx, MaxSilence)
	defer cancel()
	c, err := dial(dialCtx, state)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
		return ErrNoDaemon
	case errors.Is(err, fs.ErrPermission):
		return &store.Error{Kind: store.Denied, Op: "ask the daemon of", Subject: state, Hint: "run this as the user who mounted it, or as root"}
	case err != nil:
		return &store.Error{Kind: store.Unavailable, Op: "ask the daemon of", Subject: state, Err: err}
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(MaxSilence)); err != nil {
		return err
	}
	if err := writeFrame(c, request{Op: op, Mount: d.Mount, Args: raw}, MaxRequest); err != nil {
		return failure(ctx, c, state, err, MaxSilence)
	}
	for {
		deadline := time.Now().Add(MaxSilence)
		if end := start.Add(bound); bound > 0 && end.Before(deadline) {
			deadline = end
		}
		if err := c.SetReadDeadline(deadline); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var r response
		if err := readFrame(c, &r, MaxResponse); err != nil {
			return failure(ctx, c, state, err, deadline.Sub(start))
		}
		switch {
		case r.Error != nil:
			return r.Error
		case r.Result != nil:
			if result == nil {
				return nil
			}
			return Read(r.Result, result)
		case r.Progress != nil && progress != nil:
			if err := progress(r.Progress); err != nil {
				return err
			}
		}
	}
}

// failure says what a broken exchange means to a person.
func failure(ctx context.Context, c *net.UnixConn, state string, err error, waited time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	who := "the daemon"
	if cred, credErr := peer(c); credErr == nil && cred.Pid > 0 {
		who = fmt.Sprintf("the daemon, pid %d,", cred.Pid)
	}
	e := &store.Error{Kind: store.Unavailable, Op: "ask the daemon of", Subject: state}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Detail = fmt.Sprintf("%s gave no answer for %s", who, min(waited, MaxSilence).Round(time.Second))
		e.Hint = "see whether it is stopped or its disk hangs; its log is stasis.log in that directory"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		e.Detail, e.Err = who+" went away without an answer", errWentAway
		e.Hint = "its log is stasis.log in that directory; it may serve another user"
	default:
		e.Err = err
	}
	return e
}

// WentAway reports whether an exchange ended because the daemon did.
func WentAway(err error) bool { return errors.Is(err, errWentAway) }

// Identity is what a daemon says of itself.
type Identity struct {
	PID   int    `json:"pid"`
	Mount string `json:"mount,omitempty"` // its device number, "" if it has none, or can't tell
}

// Who asks the daemon of a state directory who it is, and waits for bound at most. The errors
// are those of Call. A daemon of a release that does not know the question is one all the same.
func Who(ctx context.Context, state string, bound time.Duration) (Identity, error) {
	var id Identity
	err := Call(ctx, state, opWho, bound, nil, &id, nil)
	if !errors.Is(err, store.Invalid) {
		return id, err
	}
	return Identity{PID: holderOf(ctx, state)}, nil
}

// holderOf gives the process that has a state directory's socket, 0 if none has. It may be
// one that answers nothing.
func holderOf(ctx context.Context, state string) int {
	ctx, cancel := context.WithTimeout(ctx, MaxSilence)
	defer cancel()
	c, err := dial(ctx, state)
	if err != nil {
		return 0
	}
	defer c.Close()
	cred, err := peer(c)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}
