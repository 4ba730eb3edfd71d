package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/statedir"
	"stasis/store"
	"stasis/store/ledger"
)

func (v *Vault) policyGet(a api.PathArgs) (any, error) {
	p, from, err := v.fsys.PolicyAt(a.Path)
	if err != nil {
		return nil, v.inVault(a.Path, err)
	}
	if from == "" {
		from = config.FileName
	}
	return api.Policy{Copies: p.Copies, Least: p.Least, From: from}, nil
}

// policySet sets the policy of a directory; the root's is in vault.toml.
func (v *Vault) policySet(ctx context.Context, a api.PolicySetArgs) (any, error) {
	if a.Copies < 0 || a.Copies > config.MaxCopies || a.Least < 0 || a.Least > config.MaxCopies || a.Copies == 0 && a.Least == 0 {
		return nil, &store.Error{Kind: store.Invalid, Op: "set the policy", Detail: fmt.Sprintf("copies and least are from 1 to %d", config.MaxCopies)}
	}
	v.editing.Lock()
	defer v.editing.Unlock()
	now, _, err := v.fsys.PolicyAt(a.Path)
	if err != nil {
		return nil, v.inVault(a.Path, err)
	}
	want := now
	if a.Copies > 0 {
		want.Copies = a.Copies
	}
	if a.Least > 0 {
		want.Least = a.Least
	}
	if want.Least > want.Copies {
		return nil, &store.Error{Kind: store.Invalid, Op: "set the policy", Subject: "of /" + a.Path,
			Detail: fmt.Sprintf("least = %d would be more than copies = %d", want.Least, want.Copies), Hint: "lower least, or raise copies"}
	}
	if a.Path != "" {
		if _, err := v.fsys.SetPolicy(ctx, a.Path, a.Copies, a.Least); err != nil {
			return nil, v.inVault(a.Path, err)
		}
		return v.policyGet(api.PathArgs{Path: a.Path})
	}
	path := v.settingsPath()
	c, err := config.Edit(path, func(text []byte) ([]byte, error) {
		var err error
		if a.Copies > 0 {
			text, err = config.SetCount(path, text, "copies", a.Copies)
		}
		if a.Least > 0 && err == nil {
			text, err = config.SetCount(path, text, "least", a.Least)
		}
		return text, err
	}, func(c *config.Config) {
		if a.Copies > 0 {
			c.Copies = a.Copies
		}
		if a.Least > 0 {
			c.Least = a.Least
		}
	})
	if err != nil {
		return nil, err
	}
	if err := v.apply(c); err != nil {
		return nil, err
	}
	return v.policyGet(api.PathArgs{})
}

// backup writes the ledger and the settings into a directory. The key is not among
// them: whoever finds the backup should not be able to read the vault.
func (v *Vault) backup(a api.BackupArgs) (any, error) {
	dir, err := v.guard.Resolve("a backup", a.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of the backup: %w", err)
	}
	path := filepath.Join(dir, time.Now().UTC().Format("ledger-20060102T150405Z")+backupSuffix)
	if _, err := os.Lstat(path); err == nil {
		return nil, &store.Error{Kind: store.Conflict, Op: "make the backup", Subject: path, Detail: "it is there already", Hint: "try again in a second"}
	}
	if err := v.ledger.Backup(path); err != nil {
		return nil, err
	}
	settings, err := config.Read(v.settingsPath())
	if err == nil {
		err = config.Write(filepath.Join(dir, config.FileName), settings)
	}
	if err != nil {
		return nil, fmt.Errorf("back up the settings: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("look at the backup: %w", err)
	}
	return api.BackupResult{Path: path, Bytes: info.Size()}, nil
}

// backupSuffix ends the names of backups of a ledger.
const backupSuffix = ".backup"

// Restore brings the ledger of a state directory back from a backup: a file, or a
// directory, whose newest is taken. Settings and key that are there stay; where there
// are no settings, those beside the backup are taken. It may be a peer's directory too.
func Restore(ctx context.Context, dir, backup string) (ledger.Restored, error) {
	var none ledger.Restored
	file, err := backupFile(backup)
	if err != nil {
		return none, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none, fmt.Errorf("make the state directory: %w", err)
	}
	f, err := statedir.Lock(ctx, dir)
	if err != nil {
		return none, err
	}
	defer f.Close()
	if !IsState(dir) && !statedir.IsPeer(dir) {
		settings, err := config.Read(filepath.Join(filepath.Dir(file), config.FileName))
		if err != nil {
			return none, &store.Error{Kind: store.NotFound, Op: "restore", Subject: dir, Detail: "there is no vault.toml, neither in it nor beside the backup",
				Hint: "is it a state directory? `stasis list` shows where those of vaults are"}
		}
		if err := config.Write(filepath.Join(dir, config.FileName), settings); err != nil {
			return none, err
		}
	}
	return ledger.Restore(filepath.Join(dir, ledgerName), file)
}

func backupFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("find the backup: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", fmt.Errorf("find the backup: %w", err)
	}
	for _, e := range slices.Backward(entries) { // the names sort by time
		if strings.HasSuffix(e.Name(), backupSuffix) {
			return filepath.Join(path, e.Name()), nil
		}
	}
	return "", &store.Error{Kind: store.NotFound, Op: "find the backup", Subject: path, Detail: "there is no file *" + backupSuffix + " in it"}
}
