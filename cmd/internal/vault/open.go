package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/fs"
	"stasis/fs/names"
	"stasis/peer/identity"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// Options say how to open a vault.
type Options struct {
	// State is the state directory, absolute and free of symlinks.
	State string
	// Mountpoint is where the vault is to be mounted, absolute; empty for a command that
	// opens it for a moment.
	Mountpoint string
	// Create makes a new vault where there is none.
	Create bool
	// ReadOnly changes nothing.
	ReadOnly bool
	// TakeOver is a person's decision that this state directory may use nodes that a
	// copy of it used last.
	TakeOver bool
	Log      logrus.FieldLogger
}

// Host is what a mount adds to a vault: the end of it.
type Host interface {
	// Unmount takes the mount away. An error says what is in the way; the mount is as it
	// was then.
	Unmount(ctx context.Context) error
}

// Vault is an open vault. Handle may be called concurrently.
type Vault struct {
	o        Options
	log      logrus.FieldLogger
	guard    nodes.Guard
	fresh    bool
	identity identity.Identity
	ledger   *ledger.DB
	fsys     *fs.FS
	router   *router.Router
	host     Host
	refusals refusals
	risk     riskCache

	settings atomic.Pointer[config.Config]
	editing  sync.Mutex // one change of the settings at a time
	parted   time.Time  // when the last node was removed; guarded by editing

	ctx     context.Context // ends when Close begins
	cancel  context.CancelFunc
	work    sync.WaitGroup
	closers []func(context.Context) error // in the order in which things were opened
}

// Open opens the vault of a state directory and starts its work. Conflict if another
// process has it, or if a copy of the state directory used one of its nodes since.
func Open(ctx context.Context, o Options) (*Vault, error) {
	v := &Vault{o: o, log: o.Log, guard: nodes.Guard{State: o.State, Mountpoint: o.Mountpoint}}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	if err := v.open(ctx); err != nil {
		return nil, errors.Join(err, v.Close(context.WithoutCancel(ctx)))
	}
	return v, nil
}

func (v *Vault) open(ctx context.Context) error {
	if err := v.takeState(ctx); err != nil {
		return err
	}
	c, err := config.Load(v.settingsPath())
	if err != nil {
		return err
	}
	if err := v.checkPlaces(c); err != nil {
		return err
	}
	if err := v.sameBodies(c); err != nil {
		return err
	}
	v.settings.Store(c)
	if v.ledger, err = ledger.Open(v.ledgerPath(), ledger.Options{Log: v.log, State: v.o.State}); err != nil {
		return v.wayBack(err)
	}
	v.closers = append(v.closers, func(context.Context) error { return v.ledger.Close() })
	if err := v.start(ctx, c); err != nil {
		return v.wayBack(err)
	}
	if err := v.refusals.reason(); err != nil && !v.o.ReadOnly {
		return err
	}
	if !v.o.ReadOnly && v.o.Mountpoint != "" {
		v.work.Go(v.backupLoop)
	}
	return nil
}

// wayBack adds to an error about a damaged ledger how it comes back.
func (v *Vault) wayBack(err error) error {
	var e *store.Error
	if !errors.Is(err, store.Corrupt) || errors.As(err, &e) && e.Hint != "" {
		return err
	}
	backup := "BACKUP"
	if all, listErr := ledger.Backups(v.ledgerPath()); listErr == nil && len(all) > 0 {
		backup = all[0].Path
	}
	return fmt.Errorf("%w; bring it back with %s", err, restoreCommand(v.o.State, backup))
}

// checkPlaces tests the places of a configuration.
func (v *Vault) checkPlaces(c *config.Config) error {
	taken := []nodes.Place{{Name: "the directory of bodies", Path: c.Bodies}}
	for _, name := range []string{ledgerName, cacheName} {
		taken = append(taken, nodes.Place{Name: "the vault's " + name, Path: filepath.Join(v.o.State, name)})
	}
	return v.guard.Check(c.Nodes, taken)
}

func (v *Vault) ledgerPath() string { return filepath.Join(v.o.State, ledgerName) }

// start wires filesystem and router to the ledger and to one another.
func (v *Vault) start(ctx context.Context, c *config.Config) error {
	var err error
	v.fsys, err = fs.New(fs.Options{
		Ledger: v.ledger, Bodies: c.Bodies, Policy: v.policy, Log: v.log, ReadOnly: v.o.ReadOnly,
		Names: names.Options{RootUID: uint32(os.Geteuid()), RootGID: uint32(os.Getegid())},
	})
	if err != nil {
		return err
	}
	v.router, err = router.New(router.Options{
		Ledger: v.ledger, Owner: v.identity.Owner(), Bodies: v.fsys, BodyDir: c.Bodies, Observer: v.fsys,
		CacheDir: filepath.Join(v.o.State, cacheName), CacheDiskBytes: c.Cache,
		Log: v.log, TakeOver: v.o.TakeOver, ReadOnly: v.o.ReadOnly,
	})
	if err != nil {
		return err
	}
	v.closers = append(v.closers, v.router.Close)
	if err := v.router.SetNodes(v.specs(c)); err != nil {
		return err
	}
	if err := v.fsys.Start(ctx, v.router); err != nil {
		return err
	}
	v.closers = append(v.closers, v.fsys.Close)
	return v.router.Start(ctx)
}

// Close ends the work, syncs what is there and gives the state directory free. The
// mount must be gone, and no request under way. Nothing that was acknowledged is lost if
// ctx ends first.
func (v *Vault) Close(ctx context.Context) error {
	v.cancel()
	v.work.Wait()
	var errs error
	for len(v.closers) > 0 {
		last := len(v.closers) - 1
		errs = errors.Join(errs, v.closers[last](ctx))
		v.closers = v.closers[:last]
	}
	return errs
}

// FS is the vault's filesystem, for a mount.
func (v *Vault) FS() *fs.FS { return v.fsys }

// Fresh reports whether this opening made the vault.
func (v *Vault) Fresh() bool { return v.fresh }

// SetHost tells the vault who mounted it. It is called before the first request.
func (v *Vault) SetHost(h Host) { v.host = h }

func (v *Vault) settingsPath() string { return filepath.Join(v.o.State, config.FileName) }

// policy is what holds where no directory says otherwise.
func (v *Vault) policy() router.Policy {
	c := v.settings.Load()
	return router.Policy{Copies: c.Copies, Least: c.Least}
}

// Reload reads vault.toml again. After an error the settings are what they were.
func (v *Vault) Reload() error {
	v.editing.Lock()
	defer v.editing.Unlock()
	c, err := config.Load(v.settingsPath())
	if err != nil {
		return err
	}
	return v.apply(c)
}

// apply puts settings into force. Called with editing held.
func (v *Vault) apply(c *config.Config) error {
	old := v.settings.Load()
	if c.Bodies != old.Bodies {
		return &config.Error{File: v.settingsPath(), Message: fmt.Sprintf("bodies can't change from %s to %s while the vault is open", old.Bodies, c.Bodies),
			Hint: "unmount it, move the directory, then mount it again"}
	}
	if err := v.checkPlaces(c); err != nil {
		return err
	}
	if err := v.router.SetNodes(v.specs(c)); err != nil {
		return err
	}
	if c.Cache != old.Cache {
		v.log.Info("the size of the cache counts from the next mount on")
	}
	v.settings.Store(c)
	return v.fsys.PolicyChanged()
}

// backupLoop has the ledger backed up once a day.
func (v *Vault) backupLoop() {
	t := time.NewTicker(backupPoll)
	defer t.Stop()
	for {
		if b, made, err := v.ledger.BackupIfDue(time.Now()); err != nil {
			v.log.WithError(err).Warn("the daily backup of the ledger failed; it is tried again")
		} else if made {
			v.log.WithField("file", b.Path).Info("the ledger was backed up")
		}
		select {
		case <-v.ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Rescue makes what is there survive a power cut, for a daemon that has to end while its
// mount is still in use. The next opening goes on from there.
func (v *Vault) Rescue(ctx context.Context) error {
	errs := v.ledger.Sync(ctx, v.ledger.Position())
	d, err := os.Open(v.settings.Load().Bodies)
	if err != nil {
		return errors.Join(errs, fmt.Errorf("sync the bodies: %w", err))
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		errs = errors.Join(errs, fmt.Errorf("sync the bodies: %w", err))
	}
	return errs
}

// Status is what `stasis status` says.
func (v *Vault) Status(ctx context.Context) (*api.Status, error) { return v.status(ctx) }
