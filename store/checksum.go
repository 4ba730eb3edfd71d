package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"

	"github.com/zeebo/blake3"
)

// BlockSize is the unit of checksums, in bytes. Every block of a crate but the
// last has this size.
const BlockSize = 1 << 20

// MaxCrate is the largest crate, in bytes.
const MaxCrate = 64 << 30

// DigestSize is the length of a Digest, in bytes.
const DigestSize = 32

// Digest is a BLAKE3 hash of 256 bits.
type Digest [DigestSize]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Checksums is what verifies a crate: one digest a block, and its size in bytes.
type Checksums struct {
	Size   int64
	Blocks []Digest
}

// Root is the digest of the whole crate: BLAKE3 over the size, eight bytes
// big-endian, and the block digests in order. Two crates with the same root have
// the same bytes.
func (c Checksums) Root() Digest {
	h := blake3.New()
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(c.Size))
	h.Write(size[:])
	for i := range c.Blocks {
		h.Write(c.Blocks[i][:])
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// Blocks is how many blocks a crate of size bytes has.
func Blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// BlockLen is the length in bytes of block i of a crate of size bytes.
func BlockLen(size, i int64) int64 { return min(BlockSize, size-i*BlockSize) }

// SumBlock is the digest of one block.
func SumBlock(p []byte) Digest { return blake3.Sum256(p) }

// Matches reports whether p is block i of the crate.
func (c Checksums) Matches(i int64, p []byte) bool {
	if i < 0 || i >= int64(len(c.Blocks)) || int64(len(p)) != BlockLen(c.Size, i) {
		return false
	}
	d := SumBlock(p)
	return bytes.Equal(d[:], c.Blocks[i][:])
}

// Valid reports whether the number of blocks fits the size and the size fits
// the limits. Checksums that come from outside are tested with it before use.
func (c Checksums) Valid() bool {
	return c.Size > 0 && c.Size <= MaxCrate && int64(len(c.Blocks)) == Blocks(c.Size)
}

// Hasher computes Checksums from bytes written to it in any portions. The zero
// value is ready. It is not safe for concurrent use.
type Hasher struct {
	h    *blake3.Hasher
	fill int64
	sums Checksums
}

var _ io.Writer = (*Hasher)(nil)

// Write never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if h.h == nil {
			h.h = blake3.New()
		}
		k := min(int64(len(p)), BlockSize-h.fill)
		h.h.Write(p[:k])
		h.fill += k
		h.sums.Size += k
		p = p[k:]
		if h.fill == BlockSize {
			h.close()
		}
	}
	return n, nil
}

func (h *Hasher) close() {
	var d Digest
	h.h.Sum(d[:0])
	h.sums.Blocks = append(h.sums.Blocks, d)
	h.h.Reset()
	h.fill = 0
}

// Sums ends the crate and gives its checksums.
func (h *Hasher) Sums() Checksums {
	if h.fill > 0 {
		h.close()
	}
	return h.sums
}
