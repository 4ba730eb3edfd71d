package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/control"
	"stasis/store"
)

func (v *Vault) unmount(ctx context.Context, a api.UnmountArgs, progress control.Progress) (any, error) {
	if v.host == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: "unmount", Subject: v.o.State, Detail: "it is not mounted"}
	}
	var r api.UnmountResult
	if a.Wait {
		reached, err := v.waitPending(ctx, a.Timeout, progress)
		if err != nil {
			return nil, err
		}
		r.TimedOut = !reached
	}
	sum, err := v.fsys.Summary(ctx)
	if err != nil {
		return nil, err
	}
	r.Pending, r.Short, r.Unplaced = v.router.Pending().Crates+sum.UnsealedFiles, sum.ShortFiles, sum.UnplacedFiles
	for _, n := range v.router.StatusNow() {
		if n.Durable && n.Unknown != "" {
			r.Unknown++
		}
	}
	if r.TimedOut {
		r.Detail = fmt.Sprintf("%s to be sent after %s", counted(r.Pending, "crate is still", "crates are still"), a.Timeout)
		return r, nil
	}
	return r, v.host.Unmount(ctx)
}

// waitPending waits until nothing is left to send; false at the timeout.
func (v *Vault) waitPending(ctx context.Context, timeout time.Duration, progress control.Progress) (bool, error) {
	if timeout <= 0 {
		timeout = DefaultWait
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := v.waitFor(ctx, api.WaitArgs{Paths: []string{""}}, progress)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return false, nil
	case err != nil:
		return false, err
	case out.Outcome != api.Impossible:
		return out.Outcome == api.Reached, nil
	}
	// Some files can't have all copies; the others are worth waiting for.
	t := time.NewTicker(pendingPoll)
	defer t.Stop()
	for {
		p := v.router.Pending()
		if p.Crates == 0 {
			return true, nil
		}
		if err := progress(api.WaitProgress{Files: p.Crates, Bytes: p.Bytes}); err != nil {
			return false, err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return false, ignoreDeadline(ctx.Err())
		}
	}
}

func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
