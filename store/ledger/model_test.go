package ledger

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is what a ledger should be: two maps, and how they were at each position.
type model struct {
	dir      string
	db       *DB
	spaces   [spaces]map[string]string
	position Position
}

func (m *model) Init(t *rapid.T) {
	m.spaces = [spaces]map[string]string{{}, {}}
	m.open(t)
}

func (m *model) open(t *rapid.T) {
	db, err := Open(m.dir, Options{Segment: minSegment, Overlay: SmallOverlay, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	m.db = db
}

var (
	modelKey   = rapid.StringMatching(`[ab]{1,4}`)
	modelValue = rapid.StringN(0, 40, -1)
	modelSpace = rapid.SampledFrom([]SpaceID{Shared, Local})
)

func (m *model) Update(t *rapid.T) {
	id := modelSpace.Draw(t, "space")
	var next [spaces]map[string]string
	fail := rapid.IntRange(0, 9).Draw(t, "fail") == 0
	count := rapid.IntRange(0, 6).Draw(t, "count")
	spans := rapid.IntRange(0, 2).Draw(t, "spans") == 0
	_, err := m.db.Space(id).Update(func(tx *Tx) error {
		for i := range next { // it may run again
			next[i] = maps.Clone(m.spaces[i])
		}
		for range count {
			in, tx := id, tx
			if spans {
				in = modelSpace.Draw(t, "in")
				tx = tx.In(in)
			}
			k := modelKey.Draw(t, "key")
			if rapid.Bool().Draw(t, "delete") {
				tx.Delete([]byte(k))
				delete(next[in-1], k)
			} else {
				v := modelValue.Draw(t, "value")
				tx.Put([]byte(k), []byte(v))
				next[in-1][k] = v
			}
			m.scan(t, next[in-1], tx.Scan)
			m.get(t, next[in-1], tx.Get)
		}
		if fail {
			return context.Canceled
		}
		return nil
	})
	if (err != nil) != fail {
		t.Fatal(err)
	}
	if !fail && count > 0 {
		m.spaces = next
		m.position++
	}
}

func (m *model) Scan(t *rapid.T) {
	id := modelSpace.Draw(t, "space")
	m.scan(t, m.spaces[id-1], m.db.Space(id).Scan)
	m.get(t, m.spaces[id-1], m.db.Space(id).Get)
}

func (m *model) get(t *rapid.T, want map[string]string, get func([]byte) ([]byte, bool, error)) {
	k := modelKey.Draw(t, "get")
	v, ok, err := get([]byte(k))
	if w, there := want[k]; err != nil || ok != there || string(v) != w {
		t.Fatalf("%q is %q, %v, %v; want %q, %v", k, v, ok, err, w, there)
	}
}

func (m *model) scan(t *rapid.T, want map[string]string, scan func(from, to []byte, limit int) ([]Pair, error)) {
	from := []byte(rapid.StringMatching(`[ab]{0,3}`).Draw(t, "from"))
	to := []byte(rapid.StringMatching(`[ab]{0,3}`).Draw(t, "to"))
	if len(to) == 0 {
		to = nil
	}
	limit := rapid.IntRange(0, 5).Draw(t, "limit")
	var keys []string
	for k := range want {
		if k >= string(from) && (to == nil || k < string(to)) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if limit > 0 {
		keys = keys[:min(limit, len(keys))]
	}
	out, err := scan(from, to, limit)
	if err != nil || len(out) != len(keys) {
		t.Fatalf("scan %q to %q, %d: %d, %v; want %q", from, to, limit, len(out), err, keys)
	}
	for i, p := range out {
		if string(p.Key) != keys[i] || !bytes.Equal(p.Value, []byte(want[keys[i]])) {
			t.Fatalf("scan: %q is %q; want %q, %q", p.Key, p.Value, keys[i], want[keys[i]])
		}
	}
}

func (m *model) Fold(t *rapid.T) {
	if err := m.db.foldUpTo(m.db.Position()); err != nil {
		t.Fatal(err)
	}
}

// Seal leaves a sealed generation behind, as a fold that fails does.
func (m *model) Seal(*rapid.T) { m.db.seal() }

func (m *model) Sync(t *rapid.T) {
	if err := m.db.Sync(context.Background(), m.db.Position()); err != nil || m.db.Synced() != m.db.Position() {
		t.Fatalf("synced up to %d of %d: %v", m.db.Synced(), m.db.Position(), err)
	}
}

func (m *model) Tidy(t *rapid.T) {
	if err := m.db.tidy(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) Reopen(t *rapid.T) {
	if err := m.db.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *model) Kill(t *rapid.T) {
	if err := m.db.die(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

// Restore makes a backup, sometimes goes on, and comes back to the same.
func (m *model) Restore(t *rapid.T) {
	b, err := m.db.keepBackup()
	if err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(0, 3).Draw(t, "more") {
		m.Update(t)
	}
	if err := m.db.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(m.dir, b.Path)
	if err != nil || r.Reached != m.position || r.Expected != m.position || r.Damage != "" {
		t.Fatalf("restored %+v, %v; want position %d", r, err, m.position)
	}
	m.open(t)
}

func (m *model) Check(t *rapid.T) {
	if m.db.Position() != m.position {
		t.Fatalf("position %d; want %d", m.db.Position(), m.position)
	}
	for i, want := range m.spaces {
		out, err := m.db.Space(SpaceID(i+1)).Scan(nil, nil, 0)
		if err != nil || len(out) != len(want) {
			t.Fatalf("space %d: %d entries, %v; want %d", i+1, len(out), err, len(want))
		}
		for _, p := range out {
			if w, ok := want[string(p.Key)]; !ok || w != string(p.Value) {
				t.Fatalf("space %d: %q is %q; want %q, %v", i+1, p.Key, p.Value, w, ok)
			}
		}
	}
}

// TestModel: a ledger is two ordered maps, whatever goes on beneath.
func TestModel(t *testing.T) {
	base, n := memoryDir(t), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := &model{dir: filepath.Join(base, fmt.Sprint(n))}
		m.Init(rt)
		defer func() {
			if err := m.db.Close(); err != nil {
				rt.Error(err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"update": m.Update, "scan": m.Scan, "fold": m.Fold, "seal": m.Seal, "sync": m.Sync, "tidy": m.Tidy,
			"reopen": m.Reopen, "kill": m.Kill, "restore": m.Restore, "": m.Check,
		})
		if err := m.db.Check(context.Background()); err != nil {
			rt.Fatal(err)
		}
	})
}
