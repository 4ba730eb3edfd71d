package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
)

const (
	// maxStdin is how much is read of an invite from stdin, in bytes.
	maxStdin = 64 << 10
	// invitePrefix is how every invite begins.
	invitePrefix = "stasis-invite-"
)

func nodeCommand() *cobra.Command {
	return group("node", "the places that keep a vault's crates", nodeAddCommand(), nodeListCommand(), nodeRemoveCommand())
}

func nodeAddCommand() *cobra.Command {
	var capacity, zone, rate, protocol string
	cmd := &cobra.Command{Use: "add VAULT NAME directory|container|memory|peer [PATH|INVITE]", Short: "add a place that keeps crates", Args: arguments(3, 4),
		Long: `Adds a place that keeps crates, and fills it as the vault's settings say.

  directory PATH                    one file a crate, in a directory of any disk or share
  container FILE --capacity SIZE    all crates in one file
  memory --capacity SIZE            fast to read, and never counted as a copy
  peer INVITE                       another machine, which runs stasis-peer; INVITE is what
                                    ` + "`stasis peer invite`" + ` printed there, - reads it from stdin`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := nodeArgs(args, capacity, zone, rate)
			if err != nil {
				return err
			}
			if err := peerArgs(cmd, args, protocol, &a); err != nil {
				return err
			}
			t, err := findAny(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return nodeAdd(cmd, t, a)
		}}
	cmd.Flags().StringVar(&capacity, "capacity", "", "use at most `SIZE` there, like 500GiB; a directory may leave it out")
	cmd.Flags().StringVar(&zone, "zone", "", "`NAME` shared by places that can be lost together")
	cmd.Flags().StringVar(&rate, "rate", "", "send at most `RATE`, like 20MiB/s")
	cmd.Flags().StringVar(&protocol, "protocol", "", "speak `P` with a peer: grpc or http (default: grpc where it has it)")
	return cmd
}

func nodeArgs(args []string, capacity, zone, rate string) (api.NodeAddArgs, error) {
	a := api.NodeAddArgs{Name: args[1], Kind: args[2], Zone: zone}
	slip := func(format string, v ...any) (api.NodeAddArgs, error) {
		return a, usageError{fmt.Errorf(format, v...)}
	}
	if err := config.CheckName(a.Name); err != nil {
		return slip("%v", err)
	}
	var err error
	switch a.Kind {
	case config.KindDirectory, config.KindContainer:
		if len(args) < 4 {
			return slip("say where: stasis node add %s %s %s PATH", args[0], a.Name, a.Kind)
		}
		// The daemon works in another directory.
		if a.Path, err = mounts.Abs(args[3]); err != nil {
			return a, err
		}
	case config.KindMemory:
		if len(args) > 3 {
			return slip("a memory node has no path")
		}
	case api.KindPeer:
		if capacity != "" {
			return slip("a peer takes no --capacity: what may be used there is the quota of the invite")
		}
	case config.KindGRPC, config.KindHTTP:
		return slip("a node on another machine is of kind peer: stasis node add %s %s peer INVITE --protocol %s", args[0], a.Name, a.Kind)
	default:
		return slip("unknown kind %q; it is one of directory, container, memory, peer", a.Kind)
	}
	if capacity != "" {
		if a.Capacity, err = config.ParseSize(capacity); err != nil {
			return slip("--capacity: %v", err)
		}
		if a.Capacity < config.MinCapacity {
			return slip("--capacity: %s is too little; the least is %s", size(a.Capacity), size(config.MinCapacity))
		}
	} else if a.Kind == config.KindContainer || a.Kind == config.KindMemory {
		return slip("a %s node needs a capacity, like --capacity 64GiB", a.Kind)
	}
	if zone != "" {
		if err := config.CheckName(zone); err != nil {
			return slip("--zone: %v", err)
		}
	}
	if rate != "" {
		if a.Rate, err = config.ParseRate(rate); err != nil {
			return slip("--rate: %v", err)
		}
	}
	return a, nil
}

// peerArgs takes what only a peer has.
func peerArgs(cmd *cobra.Command, args []string, protocol string, a *api.NodeAddArgs) error {
	if a.Kind != api.KindPeer {
		if protocol != "" {
			return usageError{fmt.Errorf("--protocol is for peers")}
		}
		return nil
	}
	if protocol != "" && protocol != config.KindGRPC && protocol != config.KindHTTP {
		return usageError{fmt.Errorf("--protocol %q is neither grpc nor http", protocol)}
	}
	a.Protocol = protocol
	if len(args) < 4 {
		return usageError{fmt.Errorf("give the invite that `stasis peer invite` prints on the other machine: stasis node add %s %s peer INVITE", args[0], a.Name)}
	}
	if a.Invite = args[3]; a.Invite != "-" {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxStdin))
	if err != nil {
		return fmt.Errorf("read the invite: %w", err)
	}
	a.Invite = string(text)
	// The whole line that the other end printed will do.
	if at := strings.Index(a.Invite, invitePrefix); at > 0 {
		a.Invite = a.Invite[at:]
	}
	return nil
}

func nodeAdd(cmd *cobra.Command, t target, a api.NodeAddArgs) error {
	var r api.NodeAddResult
	if err := t.ask(cmd.Context(), question{op: api.OpNodeAdd, args: a, result: &r, alone: operate}); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		complain("warning: " + w)
	}
	again := ""
	if r.Known {
		again = " again, with the crates it has"
	}
	if r.Address != "" {
		again += " at " + r.Address
		if r.Quota > 0 {
			again += fmt.Sprintf(", where this %s may use %s", t.kind(), size(r.Quota))
		}
	}
	next := ""
	if r.Durable > r.Copies && a.Kind != config.KindMemory && t.peer {
		next = fmt.Sprintf(" Each crate is kept as %s; for more set copies = %d in %s and send the peer a SIGHUP.", count(int64(r.Copies), "copy"), r.Copies+1, filepath.Join(t.state, config.PeerFileName))
	} else if r.Durable > r.Copies && a.Kind != config.KindMemory {
		next = fmt.Sprintf(" Each file is kept as %s; for more: stasis policy set %s --copies %d", count(int64(r.Copies), "copy"), t.name(), r.Copies+1)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Added node %q%s.%s\n", a.Name, again, next)
	return err
}

func nodeListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list [VAULT]", Short: "what each place holds", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := status(cmd, first(args))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Schema int        `json:"schema"`
					Nodes  []api.Node `json:"nodes"`
				}{api.Schema, s.Nodes})
			}
			if len(s.Nodes) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "There is no node yet; `stasis node add` adds one.")
				return err
			}
			return printNodes(cmd.OutOrStdout(), s.Nodes)
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func nodeRemoveCommand() *cobra.Command {
	var force, dryRun bool
	cmd := &cobra.Command{Use: "remove VAULT NAME", Short: "take a place away from a vault", Args: arguments(2, 2),
		Long: `Takes a place away from a vault. Its crates stay on it. Refused if a file would
fall below its wanted copies, unless forced, and always if it has an only copy.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findAny(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return nodeRemove(cmd, t, api.NodeRemoveArgs{Name: args[1], Force: force, DryRun: dryRun})
		}}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what it means")
	cmd.Flags().BoolVar(&force, "force", false, "even if files then have fewer copies than wanted")
	return cmd
}

func nodeRemove(cmd *cobra.Command, t target, a api.NodeRemoveArgs) error {
	var r api.NodeRemoveResult
	if err := t.ask(cmd.Context(), question{op: api.OpNodeRemove, args: a, result: &r, alone: operate}); err != nil {
		return err
	}
	what := "file"
	if t.peer {
		what = "crate" // a peer knows of no files
	}
	means := []string{fmt.Sprintf("%s, %s", count(r.Crates, "crate"), size(r.Bytes))}
	if r.Below > 0 {
		means = append(means, fmt.Sprintf("%s %s below the wanted copies", count(r.Below, what), agree(r.Below, "falls", "fall")))
	}
	if r.Only > 0 {
		means = append(means, fmt.Sprintf("%s %s only copy there", count(r.Only, what), agree(r.Only, "has its", "have their")))
	}
	if r.Unsent > 0 {
		means = append(means, fmt.Sprintf("%s not sent there yet", count(r.Unsent, "crate")))
	}
	text := fmt.Sprintf("node %q: %s", a.Name, strings.Join(means, "; "))
	switch {
	case r.Refusing && r.Only > 0:
		text += ". It can't be removed before they have copies elsewhere: add a node and raise copies, or remove what is kept there"
	case r.Refusing:
		text += ". Add another node first, or use --force"
	}
	if r.Refusing {
		return exit{exitFailed, text}
	}
	done := "Removed"
	if !r.Removed {
		done = "Would remove"
	}
	if r.Crates > 0 {
		text += ". The crates stay where they are"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s.\n", done, text)
	return err
}
