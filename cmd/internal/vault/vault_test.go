package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/statedir"
	"stasis/peer/identity"
	"stasis/store"
)

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// opened opens a vault, which is made if need be, and closes it with the test.
func opened(t *testing.T, o Options) *Vault {
	t.Helper()
	v := openedByHand(t, o)
	t.Cleanup(func() { closed(t, v) })
	return v
}

func openedByHand(t *testing.T, o Options) *Vault {
	t.Helper()
	o.Log = quiet()
	v, err := Open(bounded(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closed(t *testing.T, v *Vault) {
	t.Helper()
	if err := v.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// refused opens a vault and wants an error of a kind that says some words.
func refused(t *testing.T, o Options, kind store.Kind, words ...string) {
	t.Helper()
	o.Log = quiet()
	v, err := Open(bounded(t), o)
	if err == nil {
		closed(t, v)
		t.Fatal("the vault was opened")
	}
	if kind != 0 && !errors.Is(err, kind) {
		t.Errorf("%v is not %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("nothing about %q in: %v", w, err)
		}
	}
}

// ask answers a request as over the socket, its result and error through JSON.
func ask(t *testing.T, v *Vault, op string, args, result any) error {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.Handle(bounded(t), op, raw, func(any) error { return nil })
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	return json.Unmarshal(raw, result)
}

func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "state")
}

func TestNewVault(t *testing.T) {
	state := stateDir(t)
	refused(t, Options{State: state}, store.NotFound, "no vault")
	v := openedByHand(t, Options{State: state, Create: true})
	if !v.Fresh() {
		t.Error("a new vault is not said to be new")
	}
	var s api.Status
	if err := ask(t, v, api.OpStatus, struct{}{}, &s); err != nil {
		t.Fatal(err)
	}
	if s.State != api.StateSafe || s.Copies != 1 || len(s.Nodes) != 1 || s.Nodes[0].Name != config.DefaultNode || s.Nodes[0].State != "online" {
		t.Errorf("the status of a new vault is %+v", s)
	}
	if !statedir.Locked(state) {
		t.Error("the state directory of an open vault can be taken")
	}
	closed(t, v)
	if statedir.Locked(state) {
		t.Error("a closed vault is still in use")
	}
	if v := opened(t, Options{State: state, Create: true}); v.Fresh() {
		t.Error("an old vault is said to be new")
	}
}

// Whatever instant the first start was cut off at, the next one goes on.
func TestNewVaultGoesOnWhereItWasCutOff(t *testing.T) {
	for name, undo := range map[string][]string{
		"before the settings": {config.FileName, ledgerName},
		"before the ledger":   {ledgerName},
		"before the node":     {config.FileName, ledgerName, "nodes"},
		"before the key":      {config.FileName, ledgerName, "nodes", identity.FileName},
	} {
		t.Run(name, func(t *testing.T) {
			state := stateDir(t)
			closed(t, openedByHand(t, Options{State: state, Create: true}))
			for _, f := range undo {
				if err := os.RemoveAll(filepath.Join(state, f)); err != nil {
					t.Fatal(err)
				}
			}
			// The token of the first run went with the ledger.
			v := opened(t, Options{State: state, Create: true, TakeOver: true})
			if !v.Fresh() {
				t.Error("it should still be new")
			}
		})
	}
}

// Settings written beforehand make the vault, and a fault in them makes nothing.
func TestNewVaultWithSettings(t *testing.T) {
	state := stateDir(t)
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(state, config.FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("copis = 2\n")
	refused(t, Options{State: state, Create: true}, 0, "vault.toml:1", `did you mean "copies"`)
	if _, err := os.Stat(filepath.Join(state, identity.FileName)); err == nil {
		t.Error("a key was made for a vault that was refused")
	}
	write("copies = 2\n[[node]]\nname = \"a\"\nkind = \"directory\"\npath = \"../a\"\n[[node]]\nname = \"c\"\nkind = \"container\"\npath = \"../c\"\ncapacity = \"64MiB\"\n")
	v := opened(t, Options{State: state, Create: true})
	var s api.Status
	if err := ask(t, v, api.OpStatus, struct{}{}, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Nodes) != 2 || s.Nodes[0].State != "online" || s.Nodes[1].State != "online" {
		t.Errorf("the nodes are %+v", s.Nodes)
	}
}

// A state directory in which the wrong thing lies is left as it is.
func TestStateDirectoryWithOtherContent(t *testing.T) {
	state := stateDir(t)
	if err := os.MkdirAll(filepath.Join(state, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{State: state, Create: true}, store.Conflict, "photos", "--state")
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
	refused(t, Options{State: filepath.Join(state, "s"), Mountpoint: state, Create: true}, store.Invalid, "inside the vault's own mountpoint")
}

func TestBodiesThatStayedBehind(t *testing.T) {
	state := stateDir(t)
	closed(t, openedByHand(t, Options{State: state, Create: true}))
	path := filepath.Join(state, config.FileName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("bodies = \"elsewhere\"\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(state, "bodies", "left")
	if err := os.WriteFile(left, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{State: state, Create: true}, 0, "bodies", "move what is there")
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	opened(t, Options{State: state, Create: true})
}

// What a command changes is in vault.toml, with the person's comments, and in force.
func TestSettingsByCommand(t *testing.T) {
	state := stateDir(t)
	v := opened(t, Options{State: state, Create: true})
	place := filepath.Join(filepath.Dir(state), "b")
	var added api.NodeAddResult
	if err := ask(t, v, api.OpNodeAdd, api.NodeAddArgs{Name: "b", Kind: config.KindDirectory, Path: place, Zone: "z"}, &added); err != nil {
		t.Fatal(err)
	}
	if added.Known || added.Durable != 2 || len(added.Warnings) != 1 {
		t.Errorf("the node that was added: %+v", added)
	}
	for what, a := range map[string]api.NodeAddArgs{
		"name":     {Name: "b", Kind: config.KindMemory, Capacity: 64 << 20},
		"place":    {Name: "c", Kind: config.KindDirectory, Path: place},
		"inside":   {Name: "c", Kind: config.KindDirectory, Path: filepath.Join(place, "c")},
		"bodies":   {Name: "c", Kind: config.KindDirectory, Path: filepath.Join(state, "bodies")},
		"capacity": {Name: "c", Kind: config.KindMemory},
		"nowhere":  {Name: "c", Kind: config.KindDirectory, Path: filepath.Join(state, "no", "where")},
	} {
		if err := ask(t, v, api.OpNodeAdd, a, &added); store.KindOf(err) == 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	var p api.Policy
	if err := ask(t, v, api.OpPolicySet, api.PolicySetArgs{Copies: 2, Least: 2}, &p); err != nil || p != (api.Policy{Copies: 2, Least: 2, From: config.FileName}) {
		t.Errorf("the policy is %+v, %v", p, err)
	}
	if err := ask(t, v, api.OpPolicySet, api.PolicySetArgs{Copies: 1}, &p); !errors.Is(err, store.Invalid) {
		t.Errorf("least above copies: %v", err)
	}
	c, err := config.Load(filepath.Join(state, config.FileName))
	if err != nil || c.Copies != 2 || c.Least != 2 || len(c.Nodes) != 2 || c.Nodes[1].Path != place || c.Nodes[1].Zone != "z" {
		t.Errorf("vault.toml says %+v, %v", c, err)
	}
	var removed api.NodeRemoveResult
	if err := ask(t, v, api.OpNodeRemove, api.NodeRemoveArgs{Name: "b", DryRun: true}, &removed); err != nil || removed.Removed {
		t.Errorf("a dry run says %+v, %v", removed, err)
	}
	if err := ask(t, v, api.OpNodeRemove, api.NodeRemoveArgs{Name: "b"}, &removed); err != nil || !removed.Removed {
		t.Errorf("removing says %+v, %v", removed, err)
	}
	text, err := os.ReadFile(filepath.Join(state, config.FileName))
	if err != nil || strings.Contains(string(text), place) || !strings.Contains(string(text), "# This vault's settings") {
		t.Errorf("vault.toml is\n%s%v", text, err)
	}
	if err := ask(t, v, api.OpNodeAdd, api.NodeAddArgs{Name: "again", Kind: config.KindDirectory, Path: place}, &added); err != nil || !added.Known {
		t.Errorf("adding it again says %+v, %v", added, err)
	}
}

func TestReload(t *testing.T) {
	state := stateDir(t)
	v := opened(t, Options{State: state, Create: true})
	path := filepath.Join(state, config.FileName)
	for _, c := range []struct{ text, fault string }{
		{"copies = 3\n", ""},
		{"copies = three\n", "vault.toml:1"},
		{"copies = 2\nbodies = \"b\"\n", "bodies can't change"},
		{"copies = 2\n[[node]]\nname = \"x\"\nkind = \"directory\"\npath = \"bodies/x\"\n", "lie one in the other"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := v.Reload()
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%q: %v", c.text, err)
		}
		if got := v.policy().Copies; got != 3 {
			t.Errorf("%q: %d copies in force", c.text, got)
		}
	}
}

func TestBackupAndRestore(t *testing.T) {
	state := stateDir(t)
	v := openedByHand(t, Options{State: state, Create: true})
	dir := filepath.Join(filepath.Dir(state), "backup")
	var b api.BackupResult
	if err := ask(t, v, api.OpBackup, api.BackupArgs{Dir: dir}, &b); err != nil || b.Bytes == 0 {
		t.Fatal(b, err)
	}
	closed(t, v)
	ctx := bounded(t)
	if _, err := Restore(ctx, state, dir); err != nil {
		t.Error(err)
	}
	closed(t, openedByHand(t, Options{State: state, Create: true}))
	// Elsewhere the settings come along and the key does not.
	other := filepath.Join(filepath.Dir(state), "other")
	if _, err := Restore(ctx, other, b.Path); err != nil {
		t.Error(err)
	}
	refused(t, Options{State: other, Create: true}, store.NotFound, "read the key", "key export")
	if _, err := Restore(ctx, other, other); !errors.Is(err, store.NotFound) {
		t.Errorf("a directory without a backup: %v", err)
	}
}
