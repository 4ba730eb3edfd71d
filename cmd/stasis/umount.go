package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/vault"
	"stasis/store"
)

const (
	// endLimit bounds how long umount waits for a daemon to end whose mount is gone.
	endLimit = 3 * time.Minute
	// endPoll is how often it looks.
	endPoll = 20 * time.Millisecond
)

func umountCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{Use: "umount MOUNTPOINT", Short: "unmount a vault; nothing is lost", Args: arguments(1, 1),
		Long: `Unmounts a vault. What is not sent yet is sent when it is mounted again; with
--wait it is sent first, and files that can't have all their copies are counted.
Exits with 3 at the end of that time, with the vault still mounted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wait := cmd.Flags().Changed("wait")
			if wait && timeout <= 0 {
				return usageError{fmt.Errorf("--wait=%s is no time to wait", timeout)}
			}
			return umount(cmd, args[0], api.UnmountArgs{Wait: wait, Timeout: timeout})
		}}
	cmd.Flags().DurationVar(&timeout, "wait", 0, "first wait until all is sent, `D` at most (10m if D is left out)")
	cmd.Flags().Lookup("wait").NoOptDefVal = vault.DefaultWait.String()
	return cmd
}

func umount(cmd *cobra.Command, arg string, args api.UnmountArgs) error {
	t, err := findTarget(cmd.Context(), arg)
	if err != nil {
		return err
	}
	if !t.mounted() {
		return fmt.Errorf("the vault of %s is not mounted", arg)
	}
	if t.inside != "" {
		return fmt.Errorf("%s lies inside a vault; to unmount that, say `stasis umount %s`", arg, t.mount.Point)
	}
	// This process itself is not to be in the way.
	if err := os.Chdir("/"); err != nil {
		return err
	}
	var line progress
	var r api.UnmountResult
	err = t.daemon().Call(cmd.Context(), api.OpUnmount, 0, args, &r, func(part json.RawMessage) error {
		var p api.WaitProgress
		if err := control.Read(part, &p); err != nil {
			return err
		}
		line.show("waiting for %s still to be sent, %s", count(p.Files, "copy"), size(p.Bytes))
		return nil
	})
	line.clear()
	if errors.Is(err, control.ErrOtherMount) {
		// It is of the vault, and what serves that serves another: a killed daemon left it.
		return mounts.Detach(cmd.Context(), t.mount.Point, true)
	}
	if errors.Is(err, control.ErrNoDaemon) || control.WentAway(err) {
		return clearStale(cmd.Context(), t)
	}
	if errors.Is(err, store.Conflict) {
		return busy(t.mount.Point)
	}
	if err != nil {
		return err
	}
	if r.TimedOut {
		return exit{exitDegraded, fmt.Sprintf("still mounted: %s", r.Detail)}
	}
	if err := waitForEnd(cmd.Context(), t); err != nil {
		return err
	}
	return sayLeft(cmd, t, r)
}

// busy says who keeps a mount from being taken away. It is looked for here and not by the
// daemon: root sees more than the daemon of a user does.
func busy(point string) error {
	holders := mounts.Holders(point, os.Getpid())
	e := &store.Error{Kind: store.Conflict, Op: "unmount", Subject: point, Detail: "it is in use: " + mounts.Describe(holders), Hint: "end that, then try again"}
	switch {
	case len(holders) == 0 && os.Geteuid() != 0:
		e.Hint = "say `sudo stasis umount " + point + "`"
	case len(holders) == 1 && holders[0].PID == os.Getppid():
		e.Hint = "`cd` out of it, then try again"
	}
	return e
}

// clearStale takes away the mount of a daemon that has ended, or is about to.
func clearStale(ctx context.Context, t target) error {
	_, err := statedir.Serving(ctx, t.state)
	switch {
	case err == nil:
		return fmt.Errorf("the vault %s is being mounted at this moment; try again", t.name())
	case !errors.Is(err, control.ErrNoDaemon):
		return err
	}
	table, err := mounts.Read()
	if err != nil {
		return err
	}
	if m, ok := table.At(t.mount.Point); !ok || m != t.mount {
		return nil // it went with its daemon
	}
	return mounts.Detach(ctx, t.mount.Point, true)
}

// waitForEnd waits until the daemon has synced and is gone, so that the vault can be
// mounted again at once.
func waitForEnd(ctx context.Context, t target) error {
	end := time.Now().Add(endLimit)
	for statedir.Locked(t.state) {
		if time.Now().After(end) {
			return fmt.Errorf("%s is unmounted, but its daemon has not ended after %s; its log is stasis.log in %s", t.mount.Point, endLimit, t.state)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(endPoll):
		}
	}
	return nil
}

// sayLeft tells what is not as it should be in a vault that was unmounted.
func sayLeft(cmd *cobra.Command, t target, r api.UnmountResult) error {
	var left []string
	if r.Pending > 0 {
		left = append(left, count(r.Pending, "crate")+" will be sent when it is mounted again")
	}
	if r.Short > 0 {
		left = append(left, count(r.Short, "file")+" with fewer copies than wanted")
	}
	if r.Unplaced > 0 {
		left = append(left, count(r.Unplaced, "file")+" only in this machine's bodies")
	}
	if r.Unknown > 0 {
		left = append(left, count(r.Unknown, "node")+" with copies that are not counted yet")
	}
	if len(left) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is unmounted. Left: %s.\n", t.name(), strings.Join(left, ", "))
	return err
}
