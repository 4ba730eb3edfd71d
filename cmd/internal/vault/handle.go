package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/control"
	"stasis/fs"
	"stasis/store"
)

// Handle answers one request; api.go says what each takes and gives.
func (v *Vault) Handle(ctx context.Context, op string, args json.RawMessage, progress control.Progress) (any, error) {
	switch op {
	case api.OpStatus:
		return v.status(ctx)
	case api.OpFind:
		return control.With(op, args, func(a api.FindArgs) (any, error) { return v.find(ctx, a, progress) })
	case api.OpWhy:
		return control.With(op, args, func(a api.PathArgs) (any, error) { return v.why(ctx, a) })
	case api.OpWait:
		return control.With(op, args, func(a api.WaitArgs) (any, error) { return v.wait(ctx, a, progress) })
	case api.OpCheck:
		return control.With(op, args, func(a api.CheckArgs) (any, error) { return v.check(ctx, a, progress) })
	case api.OpUnmount:
		return control.With(op, args, func(a api.UnmountArgs) (any, error) { return v.unmount(ctx, a, progress) })
	case api.OpPolicyGet:
		return control.With(op, args, func(a api.PathArgs) (any, error) { return v.policyGet(a) })
	case api.OpBackup:
		return control.With(op, args, func(a api.BackupArgs) (any, error) { return v.backup(a) })
	}
	if v.o.ReadOnly {
		return nil, &store.Error{Kind: store.Denied, Op: "change the vault", Subject: v.o.State, Detail: "the vault is open for reading only", Hint: "mount it without --read-only"}
	}
	switch op {
	case api.OpNodeAdd:
		return control.With(op, args, func(a api.NodeAddArgs) (any, error) { return v.nodeAdd(ctx, a) })
	case api.OpNodeRemove:
		return control.With(op, args, func(a api.NodeRemoveArgs) (any, error) { return v.nodeRemove(ctx, a) })
	case api.OpPause:
		return control.With(op, args, func(a api.PauseArgs) (any, error) { return v.pause(a) })
	case api.OpResume:
		return control.With(op, args, func(a api.PauseArgs) (any, error) { return api.PauseResult{}, v.router.Resume(a.Node) })
	case api.OpPolicySet:
		return control.With(op, args, func(a api.PolicySetArgs) (any, error) { return v.policySet(ctx, a) })
	}
	return nil, &store.Error{Kind: store.Invalid, Op: op, Detail: "this daemon does not know the request", Hint: "it is of another release than the command; mount the vault again"}
}

func (v *Vault) find(ctx context.Context, a api.FindArgs, progress control.Progress) (any, error) {
	if len(a.States) == 0 || len(a.States) > maxStates {
		return nil, &store.Error{Kind: store.Invalid, Op: "find files", Detail: "no state to look for"}
	}
	var batch []api.Found
	bytes := 0
	files, err := v.fsys.Find(ctx, a.Path, a.States, func(path, state, reason string) error {
		batch = append(batch, api.Found{Path: path, State: state, Reason: reason})
		if bytes += len(path) + len(reason); len(batch) < findBatch && bytes < findBytes {
			return nil
		}
		err := progress(batch)
		batch, bytes = batch[:0], 0
		return err
	})
	if err == nil && len(batch) > 0 {
		err = progress(batch)
	}
	return api.FindResult{Files: files}, v.inVault(a.Path, err)
}

func (v *Vault) why(ctx context.Context, a api.PathArgs) (any, error) {
	w, err := v.fsys.Why(ctx, a.Path)
	if err != nil {
		return nil, v.inVault(a.Path, err)
	}
	out := api.Why{Sentence: w.Sentence, State: w.State, Wanted: w.Wanted, Copies: []api.Copy{}}
	for _, c := range w.Copies {
		out.Copies = append(out.Copies, api.Copy{Node: c.Node, Verified: c.Verified, Parts: c.Parts, Of: c.Of, Note: c.Note})
	}
	return out, nil
}

func (v *Vault) wait(ctx context.Context, a api.WaitArgs, progress control.Progress) (any, error) {
	if len(a.Paths) == 0 || a.Copies < 0 || a.Copies > config.MaxCopies {
		return nil, &store.Error{Kind: store.Invalid, Op: "wait", Detail: "no path, or a number of copies that no file has"}
	}
	r, err := v.waitFor(ctx, a, progress)
	if len(a.Paths) == 1 {
		err = v.inVault(a.Paths[0], err)
	}
	return r, err
}

// outcomes are the filesystem's, in the words of the answer.
var outcomes = map[fs.Outcome]string{fs.Reached: api.Reached, fs.TimedOut: api.TimedOut, fs.Impossible: api.Impossible}

// waitFor waits in the filesystem; progress may be nil.
func (v *Vault) waitFor(ctx context.Context, a api.WaitArgs, progress control.Progress) (api.WaitResult, error) {
	if a.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.Timeout)
		defer cancel()
	}
	out, err := v.fsys.Wait(ctx, fs.WaitRequest{Paths: a.Paths, Copies: a.Copies, Progress: func(files, bytes int64) {
		if progress != nil {
			// Whoever listened and is gone has cancelled the request.
			_ = progress(api.WaitProgress{Files: files, Bytes: bytes})
		}
	}})
	if err != nil {
		return api.WaitResult{}, err
	}
	return api.WaitResult{Outcome: outcomes[out.Outcome], Detail: out.Detail}, nil
}

func (v *Vault) check(ctx context.Context, a api.CheckArgs, progress control.Progress) (any, error) {
	r, err := v.fsys.Check(ctx, a.Read, func(problem bool, text string) error {
		return progress(api.Finding{Problem: problem, Text: text})
	})
	return api.CheckResult{Crates: r.Crates, Copies: r.Copies, Bytes: r.Bytes, Problems: r.Problems}, err
}

// inVault names the path that a person asked about where the system has only a number
// for what is wrong.
func (v *Vault) inVault(path string, err error) error {
	var known *store.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		err = number
	}
	return fmt.Errorf("%s: %w", filepath.Join("/", v.o.Mountpoint, path), err)
}
