package directory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/blocks"
)

const (
	opRebuild = "rebuild the index"
	// newIndexName is the index while it is being made, asideName the one it replaces.
	newIndexName = "index.new"
	asideName    = "index.damaged"
)

// Rebuilt is what a Rebuild has found.
type Rebuilt struct {
	Crates int64
	Bytes  int64
	// Strange counts what lies below crates/ and is no crate. It is left there.
	Strange int64
}

// Rebuild makes the index of a store anew from the files of its crates, reading
// each; the store must not be open. What was in the old index and nowhere else is
// lost: reservations, the mount's token, which bytes stood for discarded ids. A crate
// whose bytes have rotted gets the checksums of what is there now, so that its root
// differs from the one its owner knows. The old index is set aside. Conflict if the
// index is in order.
//
// It may be interrupted, and goes on where it was. progress, unless nil, is told
// of each crate.
func Rebuild(ctx context.Context, path string, owner store.OwnerID, o Options, progress func(Rebuilt)) (Rebuilt, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Rebuilt{}, diskError(opRebuild, path, err)
	}
	if progress == nil {
		progress = func(Rebuilt) {}
	}
	done, err := rebuild(ctx, path, owner, withDefaults(o), progress)
	return done, diskError(opRebuild, path, err)
}

func rebuild(ctx context.Context, path string, owner store.OwnerID, o Options, progress func(Rebuilt)) (done Rebuilt, err error) {
	c, err := claim(path, store.NodeID{}, owner)
	if err != nil {
		return done, err
	}
	defer c.file.Close() // only its lock is given up
	if err := refuseWhole(path, c.ID, o); err != nil {
		return done, err
	}
	t, err := openTree(path)
	if err != nil {
		return done, err
	}
	defer t.close()
	x, err := resumeIndex(filepath.Join(path, newIndexName), meta{c.ID, max(0, o.Capacity)}, o)
	if err != nil {
		return done, err
	}
	b := &builder{tree: t, index: x, done: &done, progress: progress}
	for i := range shards {
		if err := b.shard(ctx, i); err != nil {
			return done, errors.Join(err, x.db.Close())
		}
	}
	if err := errors.Join(b.flush(), x.db.Close()); err != nil {
		return done, err
	}
	return done, t.exchangeIndex()
}

// refuseWhole keeps an index that is in order from being thrown away.
func refuseWhole(path string, id store.NodeID, o Options) error {
	dir := filepath.Join(path, indexName)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	x, err := openIndex(dir, o)
	if err != nil {
		if errors.Is(err, store.Corrupt) {
			return nil
		}
		return err
	}
	m, ok, err := x.meta()
	if closing := x.db.Close(); closing != nil {
		return errors.Join(err, closing)
	}
	if err == nil && ok && m.id == id {
		return &store.Error{
			Kind: store.Conflict, Op: opRebuild, Subject: path, Detail: "its index is in order",
			Hint: "if it is to be made anew all the same, move " + dir + " aside",
		}
	}
	if err != nil && !errors.Is(err, store.Corrupt) {
		return err
	}
	return nil
}

// resumeIndex opens the index being made, or begins it.
func resumeIndex(dir string, m meta, o Options) (*index, error) {
	x, err := openIndex(dir, o)
	if errors.Is(err, store.Corrupt) {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		x, err = openIndex(dir, o)
	}
	if err != nil {
		return nil, err
	}
	have, ok, err := x.meta()
	if err == nil && (!ok || have != m) {
		err = x.begin(m)
	}
	if err != nil {
		return nil, errors.Join(err, x.db.Close())
	}
	return x, nil
}

// exchangeIndex puts the new index in its place.
func (t *tree) exchangeIndex() error {
	if err := os.RemoveAll(filepath.Join(t.path, asideName)); err != nil {
		return err
	}
	if err := renameAt(t.root, indexName, t.root, asideName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := renameAt(t.root, newIndexName, t.root, indexName); err != nil {
		return err
	}
	return syncDir(t.root)
}

// builder makes an index from files.
type builder struct {
	tree     *tree
	index    *index
	done     *Rebuilt
	progress func(Rebuilt)
	waiting  []landing
}

// shard takes the files of one directory.
func (b *builder) shard(ctx context.Context, i int) error {
	d, err := openAt(b.tree.crates, shardName(i), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if err := b.file(ctx, i, name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// file takes one file, if it is a crate's.
func (b *builder) file(ctx context.Context, shard int, name string) error {
	bare, sealed := strings.CutSuffix(name, sealedSuffix)
	form := store.Plain
	if sealed {
		form = store.Sealed
	}
	id, err := store.ParseCrateID(bare)
	if err != nil || shardOf(id) != shard {
		b.done.Strange++
		return nil
	}
	size, ok, err := b.tree.size(id, form)
	if err != nil {
		return err
	}
	if !ok || size < 1 || size > store.MaxCrate {
		b.done.Strange++
		return nil
	}
	k, err := b.index.lookup(id)
	if err != nil {
		return err
	}
	if k.there && (k.rec.form != form || k.rec.size != size) {
		b.done.Strange++
		return nil
	}
	if !k.there {
		if err := b.add(ctx, id, form, size, k); err != nil {
			return err
		}
	}
	b.done.Crates++
	b.done.Bytes += size
	b.progress(*b.done)
	return nil
}

// add hashes a crate and enters it.
func (b *builder) add(ctx context.Context, id store.CrateID, form store.Form, size int64, k known) error {
	f, err := b.tree.open(id, form)
	if err != nil {
		return err
	}
	defer f.Close()
	sums, err := blocks.Ingest(ctx, store.PutRequest{Crate: id, Form: form, Size: size, Source: openSource(f)},
		func([]byte) error { return nil })
	if err != nil {
		return err
	}
	if err := b.index.saveChunks(id, sums); err != nil {
		return err
	}
	b.waiting = append(b.waiting, landing{rec: newRecord(id, form, sums), known: k})
	if len(b.waiting) >= updateKeys/3 {
		return b.flush()
	}
	return nil
}

func (b *builder) flush() error {
	_, _, err := b.index.land(b.waiting)
	b.waiting = b.waiting[:0]
	return err
}
