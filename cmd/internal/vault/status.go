package vault

import (
	"context"
	"fmt"
	"strings"
	"time"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/config"
	"stasis/cmd/internal/nodes"
	"stasis/fs"
	"stasis/router"
)

func (v *Vault) status(ctx context.Context) (*api.Status, error) {
	sum, err := v.fsys.Summary(ctx)
	if err != nil {
		return nil, err
	}
	all := v.router.Status(ctx)
	risk := v.onlyThere(ctx, all, sum.Files)
	pending := v.router.Pending()
	s := &api.Status{
		Schema: api.Schema, Files: sum.Files, Bytes: sum.Bytes, Copies: v.settings.Load().Copies, Open: sum.Open,
		Pending:  api.Pending{Crates: pending.Crates + sum.UnsealedFiles, Bytes: pending.Bytes + sum.UnsealedBytes},
		Short:    api.Short{Files: sum.ShortFiles, Reason: sum.ShortReason},
		Unplaced: api.Unplaced{Files: sum.UnplacedFiles, Bytes: sum.UnplacedBytes},
		Nodes:    []api.Node{},
		Mount:    v.o.Mountpoint, Dir: v.o.State,
	}
	if !pending.Oldest.IsZero() {
		s.Pending.OldestSeconds = max(0, int64(time.Since(pending.Oldest).Seconds()))
	}
	for _, n := range all {
		s.Nodes = append(s.Nodes, nodes.Tell(n, v.settings.Load(), config.FileName))
	}
	s.State, s.Reason = judge(s, sum, risk)
	return s, nil
}

// judge says whether all is safe, in a word and in a sentence.
func judge(s *api.Status, sum fs.Summary, risk int64) (state, sentence string) {
	risks := dangers(s, sum, risk)
	faults := troubles(s)
	switch {
	case len(risks) > 0:
		return api.StateAtRisk, "At risk: " + strings.Join(append(risks, faults...), "; ") + "."
	case len(faults) > 0:
		return api.StateDegraded, "Degraded: " + strings.Join(faults, "; ") + "."
	case s.Pending.Crates > 0:
		return api.StatePending, fmt.Sprintf("Copies are under way: %s, %s to send.", counted(s.Pending.Crates, "crate", "crates"), config.FormatSize(s.Pending.Bytes))
	case sum.PendingFiles > sum.Open:
		return api.StatePending, fmt.Sprintf("Copies are under way: %s to go.", counted(sum.PendingFiles, "file", "files"))
	case s.Open > 0:
		return api.StatePending, fmt.Sprintf("%s being written; everything else is safe.", counted(s.Open, "file is", "files are"))
	case s.Files == 0:
		return api.StateSafe, "All is safe: there are no files yet."
	case uncounted(s) != "":
		return api.StatePending, fmt.Sprintf("The copies on node %q are being counted.", uncounted(s))
	}
	return api.StateSafe, fmt.Sprintf("All is safe: %s, %s, every wanted copy verified.", counted(s.Files, "file", "files"), config.FormatSize(s.Bytes))
}

// uncounted names a durable node whose copies are not known; empty if they are on all.
func uncounted(s *api.Status) string {
	for _, n := range s.Nodes {
		if n.Durable && n.Unknown != "" {
			return n.Name
		}
	}
	return ""
}

// dangers names content whose last copy may be lost next.
func dangers(s *api.Status, sum fs.Summary, risk int64) []string {
	var out []string
	if risk > 0 {
		out = append(out, counted(risk, "file has its only copies", "files have their only copies")+" on nodes that are away")
	}
	if s.Unplaced.Files > 0 {
		text := fmt.Sprintf("%s (%s) in this machine's bodies only", counted(s.Unplaced.Files, "file", "files"), config.FormatSize(s.Unplaced.Bytes))
		if sum.UnplacedReason != "" {
			text += ": " + sum.UnplacedReason
		}
		out = append(out, text)
	}
	return out
}

// troubles names what stands in the way of the wanted copies.
func troubles(s *api.Status) []string {
	var out []string
	for _, n := range s.Nodes {
		if !n.Durable {
			continue
		}
		switch router.NodeState(n.State) {
		case router.Missing, router.Unreachable:
			text := fmt.Sprintf("node %q is %s", n.Name, n.State)
			if n.PendingCrates > 0 {
				text += ", " + counted(n.PendingCrates, "crate waits", "crates wait") + " for it"
			}
			out = append(out, text)
		case router.Full:
			// What it refused is short, unplaced, or elsewhere by now; not what was promised a
			// place there.
			if n.PendingCrates > 0 {
				out = append(out, fmt.Sprintf("node %q is full, ", n.Name)+counted(n.PendingCrates, "crate waits", "crates wait")+" for room on it")
			}
		default:
			if n.LastError != "" {
				out = append(out, fmt.Sprintf("node %q: %s", n.Name, n.LastError))
			}
		}
		// Files whose copies are unknown are in no count of files.
		if n.Unknown != "" && !n.Uncounted && n.LastError != n.Unknown {
			out = append(out, fmt.Sprintf("node %q: %s", n.Name, n.Unknown))
		}
	}
	if s.Short.Files > 0 {
		text := counted(s.Short.Files, "file has", "files have") + " fewer copies than wanted"
		if s.Short.Reason != "" {
			text += " (" + s.Short.Reason + ")"
		}
		out = append(out, text)
	}
	return out
}

// counted writes a number with the words for one or for several.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
