package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/statedir"
	"stasis/peer/identity"
	"stasis/store/ledger"
)

// printRestored says how far a restore came, and what the person has to do next.
func printRestored(cmd *cobra.Command, state string, r ledger.Restored) error {
	out := cmd.OutOrStdout()
	say := func(format string, args ...any) error {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		return err
	}
	replayed := int64(r.Reached - min(r.Backup, r.Reached))
	errs := say("The ledger in %s has what the backup holds, and %s made since.", state, count(replayed, "change"))
	if r.Expected > r.Reached {
		lost := int64(r.Expected - r.Reached)
		errs = errors.Join(errs, say("%s after that could not be read (%s).", count(lost, "change"), r.Damage))
	}
	if r.Aside != "" {
		errs = errors.Join(errs, say("What was there before is in %s.", r.Aside))
	}
	if _, err := os.Lstat(filepath.Join(state, identity.FileName)); err != nil {
		errs = errors.Join(errs, say("Next, put the key that `stasis key export` printed into %s, with mode 0600.", filepath.Join(state, identity.FileName)))
	}
	if statedir.IsPeer(state) {
		return errors.Join(errs, say("Then start it with stasis-peer; if another copy of this state directory was used meanwhile, that takes --take-over. `stasis check %s` says whether anything is missing.", state))
	}
	return errors.Join(errs, say("Then mount it; if another copy of this state directory was used meanwhile, that takes --take-over. `stasis check` says whether anything is missing."))
}
