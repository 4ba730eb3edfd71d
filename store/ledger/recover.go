package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"stasis/store"
)

// openSegments opens every segment in fs, oldest first. It closes them itself on
// an error.
func openSegments(fs files) (all []*segment, err error) {
	names, err := fs.List()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSegments(all))
		}
	}()
	for _, name := range names {
		if _, ok := segmentNumber(name); !ok {
			continue
		}
		s, err := openSegment(fs, name)
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *segment) int { return cmp.Compare(a.header.number, b.header.number) })
	return all, nil
}

func closeSegments(all []*segment) (err error) {
	for _, s := range all {
		err = errors.Join(err, s.close())
	}
	return err
}

// replay is a walk over the segments from a position on. Segments overrule: what
// one says of a position counts no more once a later one begins at or before it,
// because that is how a tail that was cut stays cut.
type replay struct {
	base    Position // where it began
	reached Position // the last update that could be read without a gap
	seen    Position // the last update that was mentioned anywhere and not overruled
	synced  Position // the last update of which a record says that it was durable
	damage  string   // where and why the chain of updates ends; empty if nothing is beyond it
	empty   []*segment
}

// run walks and gives each update that continues the chain to apply.
func (y *replay) run(all []*segment, apply func(Position, []change) error) error {
	y.reached, y.seen, y.synced = y.base, y.base, y.base
	limits, err := overruled(all)
	if err != nil {
		return err
	}
	for i, s := range all {
		if limits[i] <= y.base {
			// All of it is older than the base: it is kept for a restore, unread.
			s.last = limits[i]
			continue
		}
		if s.unreadable {
			return &store.Error{Kind: store.Corrupt, Op: openLedger, Subject: s.name, Detail: "its header is damaged"}
		}
		if s.from == 0 {
			s.from = y.reached + 1
		}
		if err := y.segment(s, limits[i], apply); err != nil {
			return err
		}
		s.last = min(y.reached, limits[i])
	}
	return nil
}

// overruled gives for each segment the last position that it may speak of, and
// notes in each where it begins.
func overruled(all []*segment) ([]Position, error) {
	limits := make([]Position, len(all))
	limit := Position(math.MaxUint64)
	for i := len(all) - 1; i >= 0; i-- {
		limits[i] = limit
		s := all[i]
		if s.unreadable {
			continue
		}
		first, ok, err := s.first()
		if err != nil {
			return nil, fmt.Errorf("read journal %s: %w", s.name, err)
		}
		if ok {
			s.from = first
			limit = min(limit, first-1)
		}
	}
	return limits, nil
}

// segment walks one segment. An update counts if it continues the chain. The first
// of a segment whose start can't be read may continue the table, and not what an earlier
// segment says: the start might have overruled that.
func (y *replay) segment(s *segment, limit Position, apply func(Position, []change) error) error {
	begun, records := false, 0
	_, _, err := s.scan(func(offset int, r record) error {
		records++
		begun = begun || r.kind == kindStart
		y.synced = max(y.synced, r.synced)
		if r.position > limit {
			return nil
		}
		y.seen = max(y.seen, r.position)
		if r.kind != kindUpdate || r.position <= y.reached {
			return nil
		}
		if r.position != y.reached+1 || !begun && y.reached > y.base {
			if y.damage == "" {
				y.damage = fmt.Sprintf("%s can't be read from update %d on", s.name, y.reached+1)
			}
			return nil
		}
		changes, ok := r.changes()
		if !ok {
			return &store.Error{
				Kind: store.Corrupt, Op: openLedger, Subject: s.name,
				Detail: fmt.Sprintf("update %d makes no sense", r.position),
			}
		}
		if err := apply(r.position, changes); err != nil {
			return err
		}
		y.reached, begun = r.position, true
		return nil
	})
	if records == 0 {
		y.empty = append(y.empty, s)
	}
	return err
}

// openJournal reads the journal, gives what bbolt does not have to g, and decides
// whether what can't be read is a torn tail or a loss.
func openJournal(o Options, m tableMeta, g *generation) (j *journal, err error) {
	if err := ignoreAbsent(o.files.Remove(spareName)); err != nil {
		return nil, err
	}
	all, err := openSegments(o.files)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSegments(all))
		}
	}()
	for _, s := range all {
		if !s.unreadable && s.header.lineage != m.lineage {
			return nil, &store.Error{
				Kind: store.Corrupt, Op: openLedger, Subject: s.name,
				Detail: "it belongs to another ledger than " + tableName + " beside it",
			}
		}
	}
	y := replay{base: m.position}
	err = y.run(all, func(p Position, c []change) error {
		g.apply(p, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if y.synced > y.reached {
		return nil, &store.Error{
			Kind: store.Corrupt, Op: openLedger,
			Detail: fmt.Sprintf("updates %d to %d were synced and can't be read; %s", y.reached+1, y.synced, cmp.Or(y.damage, "they are missing")),
		}
	}
	if y.seen > y.reached {
		o.Log.WithField("from", y.reached+1).WithField("to", y.seen).Warn("the ledger ends in updates that were never synced and were torn by a power cut; they are cut off")
	}
	j = &journal{fs: o.files, lineage: m.lineage, size: o.Segment, last: y.reached, recorded: y.synced, onRotate: func() {}}
	j.synced.Store(uint64(y.synced))
	j.version.Store(m.version)
	return j, j.adopt(all, y)
}

// adopt takes over the segments of earlier processes. A process that was killed
// may have left them unsynced, or have been told of a sync that failed: only a fold
// vouches for their updates.
func (j *journal) adopt(all []*segment, y replay) error {
	for i, s := range all {
		j.number = max(j.number, s.header.number)
		if i == len(all)-1 && slices.Contains(y.empty, s) && s.header.size >= j.size && s.header.version == j.version.Load() {
			size, err := s.f.Size()
			if err != nil {
				return err
			}
			if size >= s.header.size {
				// The process that made it may not have come to the point where its name
				// is durable.
				if err := j.fs.SyncDir(); err != nil {
					return err
				}
				j.spare = s
				continue
			}
		}
		if s.last > y.base {
			s.doubted = true
			// For a restore, which needs the journal itself; no more than an attempt.
			if err := s.f.Datasync(); err != nil {
				s.failed = true
			}
		}
		if err := s.close(); err != nil {
			return err
		}
		j.sealed = append(j.sealed, s)
	}
	return nil
}
