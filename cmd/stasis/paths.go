package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/control"
	"stasis/cmd/internal/terminal"
)

func findCommand() *cobra.Command {
	var states []string
	var zero bool
	cmd := &cobra.Command{Use: "find [VAULT|DIR] --state S[,S...]", Short: "the files that are short, unplaced, pending or open", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range states {
				switch s {
				case "open", "unplaced", "short", "pending":
				default:
					return usageError{fmt.Errorf("--state %q is none of short, unplaced, pending, open", s)}
				}
			}
			if len(states) == 0 {
				return usageError{fmt.Errorf("say which: --state short,unplaced,pending,open")}
			}
			return find(cmd, first(args), states, zero)
		}}
	cmd.Flags().StringSliceVar(&states, "state", nil, "`STATES` to look for: short, unplaced, pending, open")
	cmd.Flags().BoolVarP(&zero, "null", "0", false, "end each path with a NUL, for xargs -0")
	return cmd
}

func find(cmd *cobra.Command, arg string, states []string, zero bool) error {
	t, err := findTarget(cmd.Context(), arg)
	if err != nil {
		return err
	}
	end := byte('\n')
	if zero {
		end = 0
	}
	inside := t.inside
	if arg == "" {
		inside = ""
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	err = t.ask(cmd.Context(), question{op: api.OpFind, args: api.FindArgs{Path: inside, States: states}, alone: look,
		progress: func(part json.RawMessage) error {
			var found []api.Found
			if err := control.Read(part, &found); err != nil {
				return err
			}
			for _, f := range found {
				path := t.path(f.Path)
				if !zero {
					path = terminal.Path(cmd.OutOrStdout(), path)
				}
				if _, err := out.WriteString(path); err != nil {
					return err
				}
				if err := out.WriteByte(end); err != nil {
					return err
				}
			}
			return out.Flush()
		}})
	if err != nil {
		return err
	}
	return out.Flush()
}

func whyCommand() *cobra.Command {
	return &cobra.Command{Use: "why PATH", Short: "how safe a file is, and why", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := targetInside(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var w api.Why
			if err := t.ask(cmd.Context(), question{op: api.OpWhy, args: api.PathArgs{Path: t.inside}, result: &w, quick: true}); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if _, err := fmt.Fprintln(out, w.Sentence); err != nil {
				return err
			}
			lines := [][]string{}
			for _, c := range w.Copies {
				lines = append(lines, []string{c.Node, copyState(c), c.Note})
			}
			return rows(out, lines)
		}}
}

func copyState(c api.Copy) string {
	switch {
	case c.Of == 0:
		return ""
	case c.Parts < c.Of && c.Of == 1:
		return "not there yet"
	case c.Parts < c.Of:
		return fmt.Sprintf("%d of %s there", c.Parts, count(c.Of, "part"))
	case c.Verified.IsZero():
		return "there"
	}
	return "verified " + ago(c.Verified)
}

func waitCommand() *cobra.Command {
	var copies int
	var timeout time.Duration
	cmd := &cobra.Command{Use: "wait PATH...", Short: "wait until files have their copies", Args: arguments(1, -1),
		Long: `Commits what is open below each PATH and waits until that content has its copies.
Exits with 0 then, with 3 at the timeout, and with 4 at once if it can't be
reached as things are.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if copies < 0 || copies > config.MaxCopies || cmd.Flags().Changed("copies") && copies == 0 {
				return usageError{fmt.Errorf("--copies must be from 1 to %d", config.MaxCopies)}
			}
			if timeout < 0 {
				return usageError{fmt.Errorf("--timeout %s is negative", timeout)}
			}
			return wait(cmd, args, copies, timeout)
		}}
	cmd.Flags().IntVar(&copies, "copies", 0, "wait for `N` copies (default: as many as each file wants)")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after `D`, like 90s or 10m (default: never)")
	return cmd
}

func wait(cmd *cobra.Command, paths []string, copies int, timeout time.Duration) error {
	start := time.Now()
	vaults := []target{}
	inside := map[string][]string{}
	for _, p := range paths {
		t, err := targetInside(cmd.Context(), p)
		if err != nil {
			return err
		}
		if inside[t.state] == nil {
			vaults = append(vaults, t)
		}
		inside[t.state] = append(inside[t.state], t.inside)
	}
	for _, t := range vaults {
		left := time.Duration(0)
		if timeout > 0 {
			left = max(timeout-time.Since(start), time.Nanosecond)
		}
		if err := waitFor(cmd, t, api.WaitArgs{Paths: inside[t.state], Copies: copies, Timeout: left}); err != nil {
			return err
		}
	}
	return nil
}

func waitFor(cmd *cobra.Command, t target, args api.WaitArgs) error {
	var line progress
	var r api.WaitResult
	err := t.ask(cmd.Context(), question{op: api.OpWait, args: args, result: &r,
		progress: func(part json.RawMessage) error {
			var p api.WaitProgress
			if err := control.Read(part, &p); err != nil {
				return err
			}
			line.show("waiting for %s, %s", count(p.Files, "file"), size(p.Bytes))
			return nil
		}})
	line.clear()
	if err != nil {
		return err
	}
	switch r.Outcome {
	case api.Reached:
		return nil
	case api.TimedOut:
		return exit{exitDegraded, "timed out: " + r.Detail}
	}
	return exit{exitAtRisk, "can't be reached as things are: " + r.Detail}
}
