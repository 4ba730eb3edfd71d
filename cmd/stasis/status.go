package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/statedir"
	"stasis/cmd/internal/terminal"
	"stasis/store"
)

func statusCommand() *cobra.Command {
	var asJSON, exitCode bool
	cmd := &cobra.Command{Use: "status [VAULT]", Short: "is all safe?", Args: arguments(0, 1),
		Long: "Says in a sentence whether all is safe, then what each node holds.",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := status(cmd, first(args))
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), s)
			} else {
				err = printStatus(cmd.OutOrStdout(), s)
			}
			if err != nil || !exitCode {
				return err
			}
			switch s.State {
			case api.StateDegraded:
				return exit{code: exitDegraded}
			case api.StateAtRisk:
				return exit{code: exitAtRisk}
			}
			return nil
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if degraded, 4 if an only copy is at risk")
	return cmd
}

// first is the argument that may be left out.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func status(cmd *cobra.Command, arg string) (*api.Status, error) {
	t, err := findAny(cmd.Context(), arg)
	if err != nil {
		return nil, err
	}
	s := &api.Status{}
	if err := t.ask(cmd.Context(), question{op: api.OpStatus, result: s, quick: true, alone: look}); err != nil {
		return nil, err
	}
	if s.Mount == "" && t.mounted() {
		s.Reason += fmt.Sprintf(" Its daemon has ended: mount it again with `stasis-mount --state %s %s`.", t.state, t.mount.Point)
	}
	return s, nil
}

func printStatus(out io.Writer, s *api.Status) error {
	colour := map[string]string{api.StateSafe: green, api.StatePending: green, api.StateDegraded: yellow, api.StateAtRisk: red}[s.State]
	where := s.Mount
	if where == "" {
		where = s.Dir + " (not mounted)"
	}
	if s.Peer != nil {
		where = s.Dir
	}
	if _, err := fmt.Fprintf(out, "%s: %s\n", store.Printable(where, terminal.MaxLine), paint(s.Reason, colour)); err != nil {
		return err
	}
	if err := printNodes(out, s.Nodes); err != nil || s.Peer == nil {
		return err
	}
	return printPeer(out, s.Peer)
}

func printNodes(out io.Writer, nodes []api.Node) error {
	if len(nodes) == 0 {
		return nil
	}
	lines := [][]string{{"NODE", "KIND", "STATE", "HOLDS", "FREE", "TO SEND", ""}}
	for _, n := range nodes {
		pending := "-"
		if n.PendingCrates > 0 {
			pending = count(n.PendingCrates, "crate") + ", " + size(n.PendingBytes)
		}
		note := n.LastError
		if n.Warning != "" {
			if note != "" {
				note += "; "
			}
			note += n.Warning
		}
		if n.Paused && note == "" {
			note = "paused" + until(n.PausedUntil)
		}
		if !n.Durable && note == "" {
			note = "not counted as a copy"
		}
		state := n.State
		switch {
		case n.Barred:
			state = "barred"
		case n.Refuses:
			state = "refusing"
		}
		lines = append(lines, []string{n.Name, n.Kind, state, size(n.Bytes), size(n.Free), pending, note})
	}
	return rows(out, lines)
}

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list", Short: "every vault of this user, mounted or not", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd, asJSON) }}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listed is one vault in `stasis list --json`.
type listed struct {
	State      string `json:"state_directory"`
	Mountpoint string `json:"mountpoint"`
	Mounted    bool   `json:"mounted"`
	Serving    bool   `json:"serving"` // a daemon has it
}

func list(cmd *cobra.Command, asJSON bool) error {
	table, err := mounts.Read()
	if err != nil {
		return err
	}
	all, err := allVaults(cmd.Context(), table)
	if err != nil {
		return err
	}
	vaults := []listed{}
	for _, t := range all {
		vaults = append(vaults, listed{State: t.state, Mountpoint: t.mount.Point, Mounted: t.mounted(), Serving: statedir.Locked(t.state)})
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, struct {
			Schema int      `json:"schema"`
			Vaults []listed `json:"vaults"`
		}{api.Schema, vaults})
	}
	if len(vaults) == 0 {
		_, err := fmt.Fprintln(out, "There is no vault yet; `stasis-mount DIRECTORY` makes one.")
		return err
	}
	lines := [][]string{{"MOUNTED AT", "STATE DIRECTORY"}}
	for _, v := range vaults {
		at := v.Mountpoint
		switch {
		case !v.Mounted:
			at = "-"
		case !v.Serving:
			at += " (its daemon has ended)"
		}
		lines = append(lines, []string{at, v.State})
	}
	return rows(out, lines)
}
