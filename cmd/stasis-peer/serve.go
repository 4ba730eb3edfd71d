package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/cmd/internal/build"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/peerd"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/tidy"
)

// drainLimit is how long a peer that was told to end lets what is under way come to its end;
// what is cut off then goes on where it was at the next start.
const drainLimit = 30 * time.Second

// memoryGoal is the memory, in bytes, above which the garbage collector works harder;
// $GOMEMLIMIT wins. What is held for callers at once the servers bound.
const memoryGoal = 1 << 30

// daemon is a peer that serves.
type daemon struct {
	log     *logrus.Logger
	peer    *peerd.Peer
	control *control.Server
	failed  chan error // a server ended by itself
}

// serve serves until it is told to end.
func serve(o *options) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	d, served, err := start(context.Background(), o)
	if err != nil {
		return err
	}
	for _, s := range served {
		line := fmt.Sprintf("serving %s %s fingerprint %s", s.Protocol, s.Address, d.peer.Fingerprint())
		if err := printLine(line); err != nil {
			d.log.WithError(err).Debug("whoever started this daemon is gone")
		}
		d.log.WithField("protocol", s.Protocol).WithField("address", s.Address).Info("the peer serves")
	}
	d.tell(fmt.Sprintf("READY=1\nMAINPID=%d", os.Getpid()))
	return d.run(signals)
}

// start opens the peer and its servers.
func start(ctx context.Context, o *options) (_ *daemon, served []peerd.Served, err error) {
	state, err := resolve(o)
	if err != nil {
		return nil, nil, err
	}
	// What the daemon makes is nobody else's.
	unix.Umask(0o077)
	if err := peerd.Prepare(state); err != nil {
		return nil, nil, err
	}
	log, err := statedir.NewLog(o.logFile, o.logLevel, false)
	if err != nil {
		return nil, nil, err
	}
	log.Info(build.String("stasis-peer"))
	p, err := peerd.Open(ctx, peerd.Options{State: state, Create: true, TakeOver: o.takeOver, Log: log})
	if err != nil {
		return nil, nil, err
	}
	d := &daemon{log: log, peer: p, failed: make(chan error, 2)}
	if err = p.Start(ctx); err == nil {
		served, err = p.Serve(o.listen, o.listenHTTP, func(err error) { d.failed <- err })
	}
	if err == nil {
		d.control, err = control.Serve(state, "", p, log)
	}
	if err != nil {
		return nil, nil, errors.Join(err, d.close(nil))
	}
	return d, served, nil
}

// resolve makes the state directory absolute and free of symlinks, without a look at
// what may be mounted there.
func resolve(o *options) (string, error) {
	state := o.state
	if state == "" {
		var err error
		if state, err = peerd.DefaultState(); err != nil {
			return "", err
		}
	}
	table, err := mounts.Read()
	if err != nil {
		return "", err
	}
	state, _, err = table.Resolve(state)
	return state, err
}

// run serves until it is told to end, or can't go on.
func (d *daemon) run(signals <-chan os.Signal) error {
	ctx, stop := context.WithCancel(context.Background())
	var tidying sync.WaitGroup
	defer tidying.Wait()
	defer stop()
	tidying.Go(func() { tidy.Run(ctx) })
	for {
		select {
		case err := <-d.failed:
			d.log.WithError(err).Error("a server has ended")
			d.tell("STOPPING=1")
			return errors.Join(err, d.close(signals))
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				d.reload()
				continue
			}
			d.log.WithField("signal", sig.String()).Info("asked to end")
			d.tell("STOPPING=1")
			return d.close(signals)
		}
	}
}

func (d *daemon) reload() {
	if err := d.peer.Reload(); err != nil {
		d.log.WithError(err).Error("the settings were not read again; those before stay in force")
		return
	}
	d.log.Info("the settings were read again")
}

// close ends the control socket and the peer. A further signal ends the waiting for what
// is under way.
func (d *daemon) close(signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
				}
			}
		}
	}()
	var err error
	if d.control != nil {
		err = d.control.Close()
	}
	if err = errors.Join(err, d.peer.Close(ctx)); err != nil {
		d.log.WithError(err).Error("the peer was closed, but not cleanly; nothing that was acknowledged is lost")
		return err
	}
	d.log.Info("the peer is closed")
	return nil
}

// tell informs the service manager, if there is one.
func (d *daemon) tell(state string) {
	if err := statedir.Notify(state); err != nil {
		d.log.WithError(err).Warn("the service manager was not told")
	}
}
