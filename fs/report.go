package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
)

// Summary is what there is to say of the whole vault.
type Summary struct {
	Files, Bytes int64
	Open         int64 // files that a program has open for writing
	// Unsealed are files that were closed and are not cut into crates yet: they will be
	// sent.
	UnsealedFiles, UnsealedBytes int64
	ShortFiles                   int64
	ShortReason                  string // of one of them
	UnplacedFiles, UnplacedBytes int64
	UnplacedReason               string
	PendingFiles                 int64
}

// Summary counts the files and those that are not durable.
func (s *FS) Summary(ctx context.Context) (Summary, error) {
	var sum Summary
	var err error
	if sum.Files, sum.Bytes, err = s.tree.Counters(); err != nil {
		return sum, err
	}
	for _, f := range s.inUse() {
		f.mu.RLock()
		body, size := f.body != nil, f.size
		f.mu.RUnlock()
		writing := s.writing(f)
		if writing {
			sum.Open++
		}
		if body {
			if in, err := s.tree.Get(f.ino); err == nil {
				sum.Bytes += size - in.Size
			}
			if !writing {
				sum.UnsealedFiles++
				sum.UnsealedBytes += size
			}
		}
		s.unpin(f)
	}
	err = s.eachAttention(func(_ names.Ino, a attentionRecord) error {
		switch a.State {
		case Short:
			sum.ShortFiles++
			sum.ShortReason = a.Reason
		case Unplaced:
			sum.UnplacedFiles++
			sum.UnplacedBytes += a.Bytes
			sum.UnplacedReason = a.Reason
		case Pending:
			sum.PendingFiles++
		}
		return ctx.Err()
	})
	return sum, err
}

// inUse pins the files that are in use.
func (s *FS) inUse() []*file {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make([]*file, 0, len(s.files))
	for _, f := range s.files {
		f.pins++
		files = append(files, f)
	}
	return files
}

// Find reports the files below a directory whose state is one of states, and gives
// their number.
func (s *FS) Find(ctx context.Context, dir string, states []string, report func(path, state, reason string) error) (int64, error) {
	top, err := s.find(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range states {
		if _, ok := ParseState(name); !ok {
			return 0, &store.Error{Kind: store.Invalid, Op: "find files", Detail: fmt.Sprintf("%q is none of %s", name, strings.Join(stateNames[:], ", "))}
		}
	}
	found := int64(0)
	clean := "/" + strings.Join(slices.Collect(components(dir)), "/")
	err = s.walk(ctx, top.Ino, clean, func(at *place, in names.Inode) error {
		if !in.IsRegular() {
			return nil
		}
		c, err := s.content(in.Ino)
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if !slices.Contains(states, c.State.String()) {
			return nil
		}
		found++
		return report(at.String(), c.State.String(), c.Reason)
	})
	return found, err
}

// Why is what there is to say of one file.
type Why struct {
	Sentence string
	State    string
	Wanted   int
	Copies   []WhyCopy
}

// WhyCopy is one place that has, or is to have, a file.
type WhyCopy struct {
	Node     string
	Verified time.Time // of the oldest part; zero: nothing is there yet
	Parts    int64     // that are there
	Of       int64     // that the file has
	Note     string
}

// Why explains the state of a file, or what a directory wants.
func (s *FS) Why(ctx context.Context, path string) (Why, error) {
	in, err := s.find(path)
	if err != nil {
		return Why{}, err
	}
	pol, err := s.effective(in.Ino)
	if err != nil {
		return Why{}, err
	}
	switch {
	case in.IsDir():
		return Why{Wanted: pol.Copies, Sentence: fmt.Sprintf("A directory; files in it are to have %s.", copiesText(pol.Copies))}, nil
	case !in.IsRegular():
		return Why{Wanted: pol.Copies, State: Durable.String(), Sentence: "Not a regular file: it has no content, and its name is kept in the vault's ledger."}, nil
	}
	c, err := s.content(in.Ino)
	if err != nil {
		return Why{}, err
	}
	w := Why{State: c.State.String(), Wanted: c.Wanted}
	nodes := make(map[store.NodeID]router.NodeStatus)
	for _, n := range s.router.Status(ctx) {
		nodes[n.ID] = n
	}
	for _, id := range c.order {
		k := c.nodes[id]
		w.Copies = append(w.Copies, WhyCopy{Node: s.router.NodeName(id), Verified: k.oldest, Parts: k.verified, Of: c.parts, Note: k.note(nodes[id])})
	}
	w.Sentence = c.sentence()
	return w, nil
}

// note says what keeps a node from having the file, or what is being done.
func (k *keeper) note(n router.NodeStatus) string {
	away := ""
	switch n.State {
	case router.Missing:
		away = "the node is missing: its path does not hold its store"
	case router.Unreachable:
		away = "the node does not answer"
		if n.Barred {
			away = "the node is not trusted: " + n.LastError
		}
	}
	switch {
	case !n.Configured && n.Name != "":
		away = "the node was removed from this vault"
	case k.unknown && away == "":
		return "unknown: what the node has is counted anew, as it is not in the state that it was left in"
	case k.refused:
		return "it says that it has other bytes under this id, and gets none; `stasis resume` with its name has it tried again"
	case k.damaged && away == "":
		return "its copy was found damaged and is sent again"
	case k.planned > 0 && away != "":
		return away + "; the copy is sent when it is back"
	case k.planned > 0 && n.Refuses:
		return "waits, as the node answers but " + strings.TrimPrefix(n.LastError, "it ")
	case k.planned > 0 && n.LastError != "":
		return "being sent; last: " + n.LastError
	case k.planned > 0:
		return "being sent"
	case !k.durable:
		return "memory, which does not count"
	}
	return away
}

func copiesText(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}

// sentence says how safe the content is and, if it is not, why.
func (c *content) sentence() string {
	of := fmt.Sprintf("%d of %s", c.Copies, copiesText(c.Wanted))
	because := ""
	if c.Reason != "" {
		because = ": " + c.Reason
	}
	switch c.State {
	case Durable:
		if c.size == 0 || c.parts == 0 {
			return "Durable: it is empty, and there is nothing to copy but its name."
		}
		return fmt.Sprintf("Durable: %s verified.", of)
	case Pending:
		if c.body {
			return "Pending: it was closed a moment ago and its space is reserved; copies begin next" + because + "."
		}
		return fmt.Sprintf("Pending: %s verified, the others are under way%s.", of, because)
	case Short:
		return fmt.Sprintf("Short: %s verified, and there is no further place for it%s.", of, because)
	case Unplaced:
		return "Unplaced: only this machine's body has it" + because + "."
	case Open:
		return "Open: a program is writing it; what it has written so far is on this machine" + because + "."
	}
	return ""
}
