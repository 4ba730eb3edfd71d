package router

import (
	"context"

	"stasis/store"
	"stasis/store/ledger"
)

// chunksPerUpdate is how many chunks of checksums go into one update: 24 x 32 KiB.
const chunksPerUpdate = 24

// recordSums records the checksums of a crate of several blocks. They count once the
// manifest has their root.
func (r *Router) recordSums(c store.CrateID, sums store.Checksums) error {
	chunks := (len(sums.Blocks) + ChunkBlocks - 1) / ChunkBlocks
	for first := 0; first < chunks; first += chunksPerUpdate {
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			for i := first; i < min(first+chunksPerUpdate, chunks); i++ {
				part := sums.Blocks[i*ChunkBlocks : min((i+1)*ChunkBlocks, len(sums.Blocks))]
				tx.Put(sumsKey(c, store.Plain, uint32(i)), encodeSums(part))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// digest gives the checksum of one block; Corrupt if the ledger does not have it.
func (r *Router) digest(m *Manifest, block int64) (store.Digest, error) {
	ds, err := r.digestsFrom(m, block)
	if err != nil {
		return store.Digest{}, err
	}
	return ds[0], nil
}

// digestsFrom gives the checksums of a block and of those behind it, as many as lie in one
// record.
func (r *Router) digestsFrom(m *Manifest, block int64) ([]store.Digest, error) {
	f := m.form(store.Plain)
	if f.single() {
		return []store.Digest{f.Block}, nil
	}
	v, ok, err := r.shared.Get(sumsKey(m.Crate, store.Plain, uint32(block/ChunkBlocks)))
	if err != nil {
		return nil, err
	}
	if ok {
		ds, err := decodeSums(v)
		if i := block % ChunkBlocks; err == nil && i < int64(len(ds)) {
			return ds[i:], nil
		}
	}
	return nil, &store.Error{Kind: store.Corrupt, Op: "find the checksums of crate", Subject: m.Crate.String(), Err: errRecord,
		Hint: "run `stasis check`"}
}

// Fits reports whether p is block i of a crate, as far as that is recorded: what no
// receipt has told of yet fits whatever it is.
func (r *Router) Fits(c store.CrateID, i int64, p []byte) (bool, error) {
	m, ok, err := r.manifest(c)
	if err != nil || !ok || !m.Known(store.Plain) {
		return err == nil, err
	}
	want, err := r.digest(&m, i)
	return err == nil && store.SumBlock(p) == want, err
}

// sums gives all checksums of a crate.
func (r *Router) sums(m *Manifest) (store.Checksums, error) {
	out := store.Checksums{Size: m.Size, Blocks: make([]store.Digest, 0, store.Blocks(m.Size))}
	for i := range store.Blocks(m.Size) {
		if i%ChunkBlocks != 0 {
			continue
		}
		if f := m.form(store.Plain); f.single() {
			out.Blocks = append(out.Blocks, f.Block)
			break
		}
		v, ok, err := r.shared.Get(sumsKey(m.Crate, store.Plain, uint32(i/ChunkBlocks)))
		if err != nil {
			return out, err
		}
		if !ok {
			break
		}
		ds, err := decodeSums(v)
		if err != nil {
			return out, err
		}
		out.Blocks = append(out.Blocks, ds...)
	}
	if !out.Valid() || out.Root() != m.form(store.Plain).Root {
		return out, &store.Error{Kind: store.Corrupt, Op: "find the checksums of crate", Subject: m.Crate.String(), Err: errRecord, Hint: "run `stasis check`"}
	}
	return out, nil
}

// sweepLater notes that checksums were recorded of a crate that is dead.
func (r *Router) sweepLater(c store.CrateID) error {
	_, err := r.shared.Update(func(tx *ledger.Tx) error {
		tx.Put(sweepKey(c), encodeTime(deadVersion, r.clock.Now()))
		return nil
	})
	return err
}

// sweepLoop deletes the checksums of dead crates.
func (r *Router) sweepLoop(ctx context.Context) {
	for {
		if err := r.sweepAll(ctx); err != nil && ctx.Err() == nil {
			r.log.WithError(err).Error("delete the checksums of dead crates")
		}
		select {
		case <-ctx.Done():
			return
		case <-r.sweep:
		}
	}
}

func (r *Router) sweepAll(ctx context.Context) error {
	from := []byte{tableSweep}
	for ctx.Err() == nil {
		pairs, err := r.shared.Scan(from, after([]byte{tableSweep}), ScanPairs)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := r.sweepOne(crateOf(p.Key)); err != nil {
				return err
			}
			from = next(p.Key)
		}
		if len(pairs) < ScanPairs {
			return nil
		}
	}
	return ctx.Err()
}

// sweepOne deletes the checksums of one dead crate, and the note of it in the last
// update. A receipt that is being recorded goes first. Where the id has come back, so have the
// checksums.
func (r *Router) sweepOne(c store.CrateID) error {
	r.sealing <- struct{}{}
	defer func() { <-r.sealing }()
	prefix := append([]byte{tableSums}, c[:]...)
	for {
		left := false
		_, err := r.shared.Update(func(tx *ledger.Tx) error {
			left = false
			if _, alive, err := tx.Get(manifestKey(c)); err != nil || alive {
				tx.Delete(sweepKey(c))
				return err
			}
			pairs, err := tx.Scan(prefix, after(prefix), chunksPerUpdate)
			if err != nil {
				return err
			}
			for _, p := range pairs {
				tx.Delete(p.Key)
			}
			if left = len(pairs) == chunksPerUpdate; !left {
				tx.Delete(sweepKey(c))
			}
			return nil
		})
		if err != nil || !left {
			return err
		}
	}
}
