package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/store"
)

func pauseCommand() *cobra.Command {
	var a api.PauseArgs
	cmd := &cobra.Command{Use: "pause [VAULT] [NODE]", Short: "send nothing to a node, or to any", Args: arguments(0, 2),
		Long: `Sends nothing to NODE, or to any node of the vault, until it is resumed or --for is
over. Files are written and closed as before and stay pending; reads go on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") && a.For <= 0 {
				return usageError{fmt.Errorf("--for %s is no time to pause", a.For)}
			}
			r, err := pause(cmd, api.OpPause, args, &a)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Paused%s.\n", until(r.Until))
			}
			return err
		}}
	cmd.Flags().DurationVar(&a.For, "for", 0, "for `D`, like 2h (default: until it is resumed)")
	return cmd
}

func resumeCommand() *cobra.Command {
	return &cobra.Command{Use: "resume [VAULT] [NODE]", Short: "send again", Args: arguments(0, 2),
		Long: `Sends to NODE again, or to all nodes of the vault that were paused. A node that was barred
because its answers were wrong is trusted again only if it is called by its name, and gets what
it has refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := pause(cmd, api.OpResume, args, &api.PauseArgs{})
			return err
		}}
}

// pause finds out what is meant: a vault, a node of the vault here, or both.
func pause(cmd *cobra.Command, op string, args []string, a *api.PauseArgs) (r api.PauseResult, err error) {
	var t target
	switch len(args) {
	case 2:
		a.Node = args[1]
		t, err = findTarget(cmd.Context(), args[0])
	case 1:
		// What is known and not to be believed is no name of a node.
		if t, err = findTarget(cmd.Context(), args[0]); err != nil && !errors.Is(err, store.Denied) {
			if byNode, defaultErr := findTarget(cmd.Context(), ""); defaultErr == nil {
				a.Node, t, err = args[0], byNode, nil
			}
		}
	default:
		t, err = findTarget(cmd.Context(), "")
	}
	if err != nil {
		return r, err
	}
	return r, t.ask(cmd.Context(), question{op: op, args: a, result: &r, alone: operate})
}

// until says when a pause ends.
func until(t time.Time) string {
	if t.IsZero() {
		return " until it is resumed"
	}
	return " until " + t.Local().Format("2006-01-02 15:04")
}
