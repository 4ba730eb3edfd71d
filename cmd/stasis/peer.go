package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/mounts"
	"stasis/cmd/internal/peerd"
	"stasis/cmd/internal/statedir"
)

// serviceState is where the state of the peer of the systemd unit lies.
const serviceState = "/var/lib/stasis-peer"

func peerCommand() *cobra.Command {
	return group("peer", "who may keep crates on this machine", peerInviteCommand(), peerListCommand(), peerRevokeCommand())
}

func peerInviteCommand() *cobra.Command {
	var a api.InviteArgs
	var quota string
	cmd := &cobra.Command{Use: "invite [STATE] [--address HOST:PORT]...", Short: "print the line that lets a vault in", Args: arguments(0, 1),
		Long: `Prints the line to paste at the other end, which adds this machine to a vault there.
The invite in it is good for one vault, and for a day unless --expires says otherwise.
It works whether the peer runs or not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if quota != "" {
				if a.Quota, err = config.ParseSize(quota); err != nil {
					return usageError{fmt.Errorf("--quota: %w", err)}
				}
				if a.Quota < peerd.MinQuota {
					return usageError{fmt.Errorf("--quota: %s is too little; the least is %s", size(a.Quota), size(peerd.MinQuota))}
				}
			}
			if cmd.Flags().Changed("expires") && a.Lifetime <= 0 {
				return usageError{fmt.Errorf("--expires %s is no time to wait", a.Lifetime)}
			}
			return peerInvite(cmd, first(args), a)
		}}
	cmd.Flags().StringArrayVar(&a.Addresses, "address", nil, "others reach the peer at `HOST:PORT` (default: where it listens)")
	cmd.Flags().StringVar(&quota, "quota", "", "the vault may use `SIZE` at most, like 500GiB (default: all there is)")
	cmd.Flags().DurationVar(&a.Lifetime, "expires", 0, "the invite is good for `D`, like 1h (default 24h)")
	return cmd
}

func peerInvite(cmd *cobra.Command, arg string, a api.InviteArgs) error {
	t, err := findPeer(cmd.Context(), arg)
	if err != nil {
		return err
	}
	var r api.InviteResult
	if err := t.ask(cmd.Context(), question{op: api.OpInvite, args: a, result: &r, alone: operate}); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "stasis node add ~/vault %s peer %s\n", nodeName(), r.Invite); err != nil {
		return err
	}
	notes := []string{fmt.Sprintf("It is for one vault, until %s; whoever has this line can use it.", r.Expires.Local().Format("2006-01-02 15:04"))}
	if r.OnlyHere {
		notes = append(notes, "Its address can be reached from this machine alone; --address says another.")
	}
	if !r.Running {
		notes = append(notes, "The peer does not run at this moment; it must when the invite is used.")
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(notes, "\n"))
	return err
}

// nodeName proposes a name for this machine as a node.
func nodeName() string {
	host, err := os.Hostname()
	if err == nil {
		host, _, _ = strings.Cut(host, ".")
		err = config.CheckName(host)
	}
	if err != nil {
		return "peer"
	}
	return host
}

func peerListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list [STATE]", Short: "the vaults that keep crates here", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := findPeer(cmd.Context(), first(args))
			if err != nil {
				return err
			}
			var owners []api.Owner
			if err := t.ask(cmd.Context(), question{op: api.OpOwners, result: &owners, alone: look}); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, struct {
					Schema int         `json:"schema"`
					Owners []api.Owner `json:"owners"`
				}{api.Schema, owners})
			}
			if len(owners) == 0 {
				_, err := fmt.Fprintln(out, "Nobody yet; `stasis peer invite` lets a vault in.")
				return err
			}
			return printOwners(out, owners)
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shownID is how many letters of an owner's id are shown, which name it well enough.
const shownID = 16

func printOwners(out io.Writer, owners []api.Owner) error {
	lines := [][]string{{"OWNER", "VAULT", "HOLDS", "RESERVED", "QUOTA", "SINCE", ""}}
	for _, o := range owners {
		quota, note := "-", ""
		if o.Quota > 0 {
			quota = size(o.Quota)
		}
		if o.Revoked {
			note = "revoked"
		}
		lines = append(lines, []string{o.ID[:min(len(o.ID), shownID)], o.Name, count(o.Crates, "crate") + ", " + size(o.Used), size(o.Reserved), quota,
			o.Since.Local().Format(time.DateOnly), note})
	}
	return rows(out, lines)
}

func peerRevokeCommand() *cobra.Command {
	var discard bool
	cmd := &cobra.Command{Use: "revoke [STATE] OWNER", Short: "shut a vault out", Args: arguments(1, 2),
		Long: `Shuts a vault out at once: it can neither read nor write here any more. OWNER is what
` + "`stasis peer list`" + ` shows, or the first letters of it. What the vault has here stays,
for the case that it is invited again, unless --discard frees the space.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			state, owner := "", args[len(args)-1]
			if len(args) == 2 {
				state = args[0]
			}
			t, err := findPeer(cmd.Context(), state)
			if err != nil {
				return err
			}
			var r api.RevokeResult
			if err := t.ask(cmd.Context(), question{op: api.OpRevoke, args: api.RevokeArgs{Owner: owner, Discard: discard}, result: &r, alone: operate}); err != nil {
				return err
			}
			left := fmt.Sprintf("%s of it %s here", count(r.Owner.Crates, "crate"), agree(r.Owner.Crates, "stays", "stay"))
			if discard {
				left = count(r.Discarded, "crate") + " of it discarded"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Revoked %s (%s); %s.\n", r.Owner.ID[:min(len(r.Owner.ID), shownID)], r.Owner.Name, left)
			return err
		}}
	cmd.Flags().BoolVar(&discard, "discard", false, "delete what the vault has here, for good")
	return cmd
}

// printPeer says what a peer has beside its node.
func printPeer(out io.Writer, p *api.Peer) error {
	listens := "listens at"
	if !p.Running {
		listens = "listened at"
	}
	for _, s := range p.Serving {
		if _, err := fmt.Fprintf(out, "  %s %s (%s)\n", listens, s.Address, s.Protocol); err != nil {
			return err
		}
	}
	if len(p.Owners) == 0 {
		return nil
	}
	return printOwners(out, p.Owners)
}

// findPeer gives the peer of an argument; "" is what the person left out.
func findPeer(ctx context.Context, arg string) (target, error) {
	if arg != "" {
		t, err := findAny(ctx, arg)
		if err == nil && !t.peer {
			err = fmt.Errorf("%s is a vault's, and this is about peers: give the state directory of a stasis-peer", arg)
		}
		return t, err
	}
	peers := defaultPeers()
	switch len(peers) {
	case 0:
		return target{}, errors.New("there is no peer where one is looked for; start it with `stasis-peer`, or say which state directory")
	case 1:
		return target{state: peers[0], peer: true}, nil
	}
	return target{}, usageError{fmt.Errorf("say which peer: %s", strings.Join(peers, ", "))}
}

// defaultPeers are the state directories of peers where one would be by itself.
func defaultPeers() []string {
	var found []string
	places := []string{serviceState}
	if dir, err := peerd.DefaultState(); err == nil && dir != serviceState {
		places = append([]string{dir}, places...)
	}
	table, err := mounts.Read()
	if err != nil {
		return nil // whoever needs a peer is told to name it
	}
	for _, dir := range places {
		if real, m, err := table.Resolve(dir); err == nil && !m.IsVault() && statedir.IsPeer(real) {
			found = append(found, real)
		}
	}
	return found
}

// becomeOwner gives up root's rights for those of whom a state directory belongs to:
// what root leaves there the daemon could not open. other: that is another user.
func becomeOwner(dir string) (other bool, err error) {
	held, st, err := mounts.Hold(dir)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", dir, err)
	}
	held.Close()
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return false, fmt.Errorf("open %s: %w", dir, syscall.ENOTDIR)
	}
	if os.Geteuid() != 0 || st.Uid == 0 {
		return false, nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(st.Gid)), syscall.Setuid(int(st.Uid))); err != nil {
		return true, fmt.Errorf("act as the owner of %s: %w", dir, err)
	}
	return true, nil
}
