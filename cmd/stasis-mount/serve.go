package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/cmd/internal/build"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/tidy"
	"stasis/cmd/internal/vault"
	"stasis/fs/mount"
	"stasis/store"
)

const (
	// closeLimit bounds the syncing of a vault that was unmounted.
	closeLimit = 2 * time.Minute
	// unmountLimit bounds one attempt to unmount.
	unmountLimit = 5 * time.Second
	// busyLimit is how long a daemon that was told to end waits for programs to leave the
	// mount, before it takes the mount out of their sight and again before it ends without
	// them.
	busyLimit = 5 * time.Second
	// busyPoll is how often it tries.
	busyPoll = 200 * time.Millisecond
)

// server is a mount that serves, and all that belongs to it.
type server struct {
	point   string
	device  string // of the mount, "major:minor"
	log     *logrus.Logger
	vault   *vault.Vault
	mount   *mount.Server
	control *control.Server
	// elsewhere hears that the mount is gone here and in use where nobody can see it.
	elsewhere chan struct{}
	withheld  string // the mount options that this user may not give, "" if there are none
}

// serve mounts and serves until the mount ends. ready is told once it serves.
func serve(o *options, ready func(text string) error) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	if err := ready(s.welcome(ctx)); err != nil {
		s.log.WithError(err).Debug("whoever started this daemon is gone")
	}
	s.tell(fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=serves %s", os.Getpid(), s.point))
	s.log.WithField("mountpoint", s.point).Info("the mount serves")
	return s.run(signals)
}

// start opens the vault and mounts it.
func start(ctx context.Context, o *options) (s *server, err error) {
	point, state, log, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	tell(log, "STATUS=opens the vault of "+point)
	v, err := vault.Open(ctx, vault.Options{
		State: state, Mountpoint: point, Create: !o.readOnly, ReadOnly: o.readOnly, TakeOver: o.takeOver, Log: log,
	})
	if err != nil {
		log.WithError(err).Error("the vault was not opened")
		return nil, err
	}
	s = &server{point: point, log: log, vault: v, elsewhere: make(chan struct{}, 1), withheld: o.withhold()}
	if s.withheld != "" {
		log.Warnf("mounted without %s: only root may let these count", s.withheld)
	}
	s.mount, err = mount.Mount(v.FS(), mount.Options{
		Mountpoint: point, State: state, AllowOther: o.allowOther, ReadOnly: o.readOnly, Check: o.flags.check,
		Dev: o.flags.dev, Suid: o.flags.suid, NoExec: o.flags.noexec, NoAtime: o.flags.noatime, Log: log,
	})
	if err == nil {
		v.SetHost(s)
		s.device = deviceOf(point)
		if s.control, err = control.Serve(state, s.device, v, log); err != nil {
			err = errors.Join(err, s.mount.Unmount(ctx))
		}
	}
	if err != nil {
		log.WithError(err).Error("the vault was not mounted")
		return nil, errors.Join(err, v.Close(ctx))
	}
	return s, nil
}

// prepare checks everything that can be checked before the vault is touched, and opens
// the log.
func prepare(ctx context.Context, o *options) (point, state string, log *logrus.Logger, err error) {
	if err := checkFuse(); err != nil {
		return "", "", nil, err
	}
	if point, state, err = resolvePlaces(o); err != nil {
		return "", "", nil, err
	}
	if err := checkMountpoint(ctx, point, state); err != nil {
		return "", "", nil, err
	}
	if err := mount.MayAllowOther(point); o.allowOther && err != nil {
		return "", "", nil, err
	}
	if o.readOnly && !vault.IsState(state) {
		return "", "", nil, &store.Error{Kind: store.NotFound, Op: "open the vault", Subject: state, Detail: "there is none yet",
			Hint: "mount it once without --read-only, which makes it"}
	}
	if err := vault.Prepare(state, point); err != nil {
		return "", "", nil, err
	}
	path := o.logFile
	if path == "" && !o.foreground {
		path = filepath.Join(state, statedir.LogName)
	}
	log, err = statedir.NewLog(path, o.logLevel, !o.foreground)
	if err != nil {
		return "", "", nil, err
	}
	// What the daemon makes is nobody else's, and it keeps no other filesystem busy.
	unix.Umask(0o077)
	if err := os.Chdir("/"); err != nil {
		return "", "", nil, err
	}
	log.Info(build.String("stasis-mount"))
	return point, state, log, nil
}

// run serves until the mount has ended, then closes the vault.
func (s *server) run(signals <-chan os.Signal) error {
	ctx, stop := context.WithCancel(context.Background())
	var tidying sync.WaitGroup
	defer tidying.Wait()
	defer stop()
	tidying.Go(func() { tidy.Run(ctx) })
	for {
		select {
		case <-s.mount.Done():
			s.tell("STOPPING=1")
			return s.close()
		case <-s.elsewhere:
			s.tell("STOPPING=1")
			return s.abandon()
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.reload()
				continue
			}
			s.log.WithField("signal", sig.String()).Info("asked to end")
			s.tell("STOPPING=1")
			if !s.end(signals) {
				return s.abandon()
			}
		}
	}
}

func (s *server) reload() {
	if err := s.vault.Reload(); err != nil {
		s.log.WithError(err).Error("the settings were not read again; those before stay in force")
		return
	}
	s.log.Info("the settings were read again")
}

// end takes the mount away because the daemon has to end: from those who use it too, if
// they don't leave, whose open files go on until the daemon ends. It reports whether
// the mount has ended; a second signal stops the waiting.
func (s *server) end(signals <-chan os.Signal) bool {
	told := false
	busy := s.until(signals, func() bool {
		err := s.Unmount(context.Background())
		if errors.Is(err, store.Conflict) && !told {
			told = true
			who := mounts.Describe(mounts.Holders(s.point, os.Getpid()))
			s.log.Warnf("the mount is in use, and is taken away in %s: %s", busyLimit, who)
			s.tell("STATUS=in use: " + who)
		} else if err != nil {
			s.log.WithError(err).Debug("unmount")
		}
		return err == nil
	})
	if !busy {
		return true
	}
	s.log.Warn("the mount is taken away from those who use it")
	ctx, cancel := context.WithTimeout(context.Background(), unmountLimit)
	defer cancel()
	if err := mounts.Detach(ctx, s.point, true); err != nil {
		s.log.WithError(err).Error("take the mount away")
	}
	return !s.until(signals, s.hasEnded)
}

// until tries until it worked, a signal comes or busyLimit is over; it reports whether
// it never worked.
func (s *server) until(signals <-chan os.Signal, try func() bool) (failed bool) {
	limit := time.After(busyLimit)
	for !try() {
		select {
		case <-limit:
			return true
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return true
			}
		case <-time.After(busyPoll):
		}
	}
	return false
}

// close ends the control socket and the vault.
func (s *server) close() error {
	s.tell("STATUS=closes the vault")
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := errors.Join(s.control.Close(), s.vault.Close(ctx))
	if err != nil {
		s.log.WithError(err).Error("the vault was closed, but not cleanly; nothing that was acknowledged is lost")
		return err
	}
	s.log.Info("the vault is closed")
	return nil
}

// abandon ends with the mount in use. What was written is kept, as after a kill.
func (s *server) abandon() error {
	s.tell("STATUS=closes the vault")
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if err := errors.Join(s.control.Close(), s.vault.Rescue(ctx)); err != nil {
		s.log.WithError(err).Error("ended while programs use the mount; a power cut now may cost what they wrote last")
		return err
	}
	s.log.Warn("ended while programs use the mount; what they wrote is kept")
	return nil
}

func (s *server) tell(state string) { tell(s.log, state) }

// tell informs the service manager, if there is one.
func tell(log *logrus.Logger, state string) {
	if err := statedir.Notify(state); err != nil {
		log.WithError(err).Warn("the service manager was not told")
	}
}
