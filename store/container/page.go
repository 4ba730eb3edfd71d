package container

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/zeebo/blake3"
)

// pageKind says what a page is.
type pageKind uint8

const (
	superPage  pageKind = 1 // one of the two superblocks
	markPage   pageKind = 2 // one of the two marks
	logPage    pageKind = 3 // a part of the log
	headerPage pageKind = 4 // a part of a crate's header
)

const (
	pageMagic   = "SCpg"
	headerSize  = 64                    // what every page of these kinds starts with, in bytes
	payloadSize = PageSize - headerSize // what is left, in bytes

	// flagCommit: the page is the last of a commit.
	flagCommit = 1
)

// sum is a keyed BLAKE3 hash cut to 128 bits.
type sum [16]byte

// page is the decoded form of any page that is not crate data.
type page struct {
	kind    pageKind
	commit  bool
	self    int64  // the page's own number
	number  uint64 // log: index; crate header: sequence number; superblock and mark: generation
	link    sum    // log: the sum of the page before; crate header: which part, see header.go
	next    int64  // the page that follows, 0 for none
	sum     sum
	payload []byte
}

var errPage = errors.New("not a valid page")

// keyer computes the sums of one container's pages. The key is not secret from
// who reads the file; it makes the pages of one container mean nothing in
// another, or as data in this one.
type keyer struct {
	pool sync.Pool
}

func newKeyer(key [32]byte) *keyer {
	return &keyer{pool: sync.Pool{New: func() any {
		h, err := blake3.NewKeyed(key[:])
		if err != nil {
			panic("container: blake3 refuses a key of 32 bytes: " + err.Error())
		}
		return h
	}}}
}

func (k *keyer) sum(raw []byte) (s sum) {
	h := k.pool.Get().(*blake3.Hasher)
	defer k.pool.Put(h)
	h.Reset()
	h.Write(raw[:8])
	h.Write(raw[24:PageSize])
	h.Digest().Read(s[:])
	return s
}

// encode writes p to raw, which has PageSize bytes, and sets p.sum.
func (k *keyer) encode(p *page, raw []byte) {
	clear(raw[:PageSize])
	copy(raw, pageMagic)
	raw[4] = byte(p.kind)
	if p.commit {
		raw[5] = flagCommit
	}
	binary.BigEndian.PutUint16(raw[6:], uint16(len(p.payload)))
	binary.BigEndian.PutUint64(raw[24:], uint64(p.self))
	binary.BigEndian.PutUint64(raw[32:], p.number)
	copy(raw[40:56], p.link[:])
	binary.BigEndian.PutUint64(raw[56:], uint64(p.next))
	copy(raw[headerSize:], p.payload)
	p.sum = k.sum(raw)
	copy(raw[8:24], p.sum[:])
}

// decode reads the page that lies at number self. The payload points into raw.
func (k *keyer) decode(raw []byte, self int64) (page, error) {
	if !looksLikePage(raw) {
		return page{}, errPage
	}
	p := page{
		kind:   pageKind(raw[4]),
		commit: raw[5] == flagCommit,
		self:   int64(binary.BigEndian.Uint64(raw[24:])),
		number: binary.BigEndian.Uint64(raw[32:]),
		next:   int64(binary.BigEndian.Uint64(raw[56:])),
	}
	copy(p.sum[:], raw[8:24])
	copy(p.link[:], raw[40:56])
	used := int(binary.BigEndian.Uint16(raw[6:]))
	if p.self != self || used > payloadSize || p.next < 0 || p.next > MaxCapacity/PageSize || k.sum(raw) != p.sum {
		return page{}, errPage
	}
	p.payload = raw[headerSize : headerSize+used]
	return p, nil
}

// looksLikePage is the cheap test before the sum is computed.
func looksLikePage(raw []byte) bool {
	return len(raw) >= PageSize && string(raw[:4]) == pageMagic && raw[5] <= flagCommit
}
