package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/terminal"
	"stasis/cmd/internal/vault"
)

func policyCommand() *cobra.Command {
	return group("policy", "how many copies files should have", policyGetCommand(), policySetCommand())
}

func policyGetCommand() *cobra.Command {
	return &cobra.Command{Use: "get PATH", Short: "what holds at a path", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var p api.Policy
			if err := t.ask(cmd.Context(), question{op: api.OpPolicyGet, args: api.PathArgs{Path: t.inside}, result: &p, alone: look}); err != nil {
				return err
			}
			return printPolicy(cmd, t, p)
		}}
}

func policySetCommand() *cobra.Command {
	a := api.PolicySetArgs{}
	cmd := &cobra.Command{Use: "set PATH [--copies N] [--least N]", Short: "set what the files below a path should have", Args: arguments(1, 1),
		Long: `Sets what the files below PATH should have; what is there already is brought to it.
For the top of a vault this is the setting in vault.toml.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, f := range []struct {
				name  string
				value int
			}{{"copies", a.Copies}, {"least", a.Least}} {
				if cmd.Flags().Changed(f.name) && (f.value < 1 || f.value > config.MaxCopies) {
					return usageError{fmt.Errorf("--%s must be from 1 to %d", f.name, config.MaxCopies)}
				}
			}
			if a.Copies == 0 && a.Least == 0 {
				return usageError{fmt.Errorf("say what to set: --copies N or --least N")}
			}
			t, err := findTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.Path = t.inside
			var p api.Policy
			if err := t.ask(cmd.Context(), question{op: api.OpPolicySet, args: a, result: &p, alone: operate}); err != nil {
				return err
			}
			return printPolicy(cmd, t, p)
		}}
	cmd.Flags().IntVar(&a.Copies, "copies", 0, "keep `N` copies, each on another node")
	cmd.Flags().IntVar(&a.Least, "least", 0, "a close fails if fewer than `N` nodes have room")
	return cmd
}

func printPolicy(cmd *cobra.Command, t target, p api.Policy) error {
	from := p.From
	if from == config.FileName {
		from = filepath.Join(t.state, from)
	} else {
		from = t.path(from)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "copies = %d, least = %d (from %s)\n", p.Copies, p.Least, terminal.Path(cmd.OutOrStdout(), from))
	return err
}

func keyCommand() *cobra.Command {
	export := &cobra.Command{Use: "export [VAULT]", Short: "print the key, to be kept where the vault's disks are not", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findAny(cmd.Context(), first(args))
			if err != nil {
				return err
			}
			id, err := statedir.Key(t.state)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(id.Text())
			return err
		}}
	return group("key", "the secret of a vault or a peer", export)
}

func backupCommand() *cobra.Command {
	return &cobra.Command{Use: "backup VAULT DIR", Short: "write a backup of the ledger and the settings into a directory", Args: arguments(2, 2),
		Long: `Writes a backup of the ledger (which files there are, and where their content is) and
of vault.toml into DIR, while the vault is in use or not. The content itself is on the
nodes, and the key is not in it: keep what ` + "`stasis key export`" + ` prints.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findTarget(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			dir, err := mounts.Abs(args[1])
			if err != nil {
				return err
			}
			var r api.BackupResult
			if err := t.ask(cmd.Context(), question{op: api.OpBackup, args: api.BackupArgs{Dir: dir}, result: &r, alone: look}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, %s. The key is not in it: keep what `stasis key export` prints too.\n", terminal.Path(cmd.OutOrStdout(), r.Path), size(r.Bytes))
			return err
		}}
}

func restoreCommand() *cobra.Command {
	return &cobra.Command{Use: "restore STATE BACKUP", Short: "bring the ledger back from a backup", Args: arguments(2, 2),
		Long: `Brings the ledger of a state directory back from a backup, a file or the directory
of ` + "`stasis backup`" + `, and replays the changes since that its journals still hold. The
vault must not be mounted. What was there is set aside, not deleted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			table, err := mounts.Read()
			if err != nil {
				return err
			}
			state, m, err := table.Resolve(args[0])
			if err != nil {
				return err
			}
			if m.IsVault() {
				return fmt.Errorf("%s lies in a mounted vault; STATE is the state directory, here %s, and the vault must be unmounted", args[0], m.Source)
			}
			backup, err := mounts.Abs(args[1])
			if err != nil {
				return err
			}
			r, err := vault.Restore(cmd.Context(), state, backup)
			if err != nil {
				return err
			}
			return printRestored(cmd, state, r)
		}}
}
