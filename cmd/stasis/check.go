package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/terminal"
)

func checkCommand() *cobra.Command {
	var read bool
	cmd := &cobra.Command{Use: "check [VAULT]", Short: "is anything lost?", Args: arguments(0, 1),
		Long: `Compares the ledger, the bodies and every node that can be reached. Exits with 0
only if nothing is lost; what is pending, short or out of reach is noted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findAny(cmd.Context(), first(args))
			if err != nil {
				return err
			}
			return check(cmd, t, read)
		}}
	cmd.Flags().BoolVar(&read, "read", false, "read and verify every byte")
	return cmd
}

func check(cmd *cobra.Command, t target, read bool) error {
	out := cmd.OutOrStdout()
	var line progress
	var seen int64
	var r api.CheckResult
	err := t.ask(cmd.Context(), question{op: api.OpCheck, args: api.CheckArgs{Read: read}, result: &r, alone: look,
		progress: func(part json.RawMessage) error {
			var f api.Finding
			if err := control.Read(part, &f); err != nil {
				return err
			}
			seen++
			line.clear()
			word := "note"
			if f.Problem {
				word = "problem"
			}
			_, err := fmt.Fprintf(out, "%s: %s\n", word, terminal.Path(out, f.Text))
			return err
		}})
	line.clear()
	if err != nil {
		return err
	}
	done := "compared"
	if read {
		done = "read and verified, " + size(r.Bytes)
	}
	if _, err := fmt.Fprintf(out, "%s with %s %s.\n", count(r.Crates, "crate"), count(r.Copies, "copy"), done); err != nil {
		return err
	}
	if r.Problems > 0 {
		return exit{exitFailed, fmt.Sprintf("%s; each is named above", count(r.Problems, "problem"))}
	}
	verdict := "Nothing is lost."
	if seen > 0 {
		verdict = "Nothing is lost, as far as could be seen; the notes are above."
	}
	_, err = fmt.Fprintln(out, verdict)
	return err
}
