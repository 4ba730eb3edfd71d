package container

import (
	"encoding/binary"
	"errors"

	"stasis/store"
)

// A crate's header is a row of bytes: fixed fields, the digests of the blocks,
// the extents. It lies in pages of its own, the first of the crate's extents;
// each names its number among them and the page of the next one.

// headerFixed is the length of the fixed fields, in bytes.
const headerFixed = 16 + 1 + 7 + 8 + 32 + 8 + 4 + 4

// headerPages is how many pages the header of a crate of size bytes in n extents
// takes. It may be more than the crate is charged: see overhead.
func headerPages(size int64, n int) int64 {
	return pagesFor(headerFixed+store.DigestSize*store.Blocks(size)+8*int64(n), payloadSize)
}

// dataPages is how many pages the data of a crate of size bytes takes.
func dataPages(size int64) int64 { return pagesFor(size, PageSize) }

func pagesFor(bytes, each int64) int64 { return (bytes + each - 1) / each }

// headerData gives the extents of the crate's header and those of its data.
func (c *crate) headerData() (header, data []extent) {
	n := headerPages(c.size, len(c.extents))
	return slice(c.extents, 0, n), slice(c.extents, n, dataPages(c.size))
}

// pageNumbers lists the pages of the extents.
func pageNumbers(es []extent) []int64 {
	out := make([]int64, 0, totalPages(es))
	for _, e := range es {
		for p := e.start; p < e.end(); p++ {
			out = append(out, p)
		}
	}
	return out
}

// partLink is the link of page i of n of a header.
func partLink(i, n int64) (l sum) {
	binary.BigEndian.PutUint64(l[:], uint64(i))
	binary.BigEndian.PutUint64(l[8:], uint64(n))
	return l
}

// encodeHeader gives the raw pages of a crate's header, in order.
func encodeHeader(k *keyer, c *crate, blocks []store.Digest) (numbers []int64, raw [][]byte) {
	b := make([]byte, 0, headerFixed+len(blocks)*store.DigestSize+8*len(c.extents))
	b = append(b, c.id[:]...)
	b = append(b, byte(c.form), 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(c.size))
	b = append(b, c.root[:]...)
	b = binary.BigEndian.AppendUint64(b, c.seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(blocks)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.extents)))
	for i := range blocks {
		b = append(b, blocks[i][:]...)
	}
	for _, e := range c.extents {
		b = binary.BigEndian.AppendUint64(b, e.pack())
	}
	header, _ := c.headerData()
	numbers = pageNumbers(header)
	for i, n := range numbers {
		part := b[:min(len(b), payloadSize)]
		b = b[len(part):]
		p := page{kind: headerPage, self: n, number: c.seq, link: partLink(int64(i), int64(len(numbers))), payload: part}
		if i+1 < len(numbers) {
			p.next = numbers[i+1]
		}
		buf := make([]byte, PageSize)
		k.encode(&p, buf)
		raw = append(raw, buf)
	}
	return numbers, raw
}

var (
	errHeader = errors.New("the header of the crate is damaged")
	errShort  = errors.New("the file ends before the data of the crate does")
)

// headerFields reads the fixed fields from the first page of a header. The
// crate's extents are not set; n is their number.
func headerFields(p *page) (c *crate, n int, err error) {
	b := p.payload
	if p.kind != headerPage || len(b) < headerFixed {
		return nil, 0, errHeader
	}
	c = &crate{form: store.Form(b[16]), size: int64(binary.BigEndian.Uint64(b[24:])), seq: binary.BigEndian.Uint64(b[64:])}
	copy(c.id[:], b)
	copy(c.root[:], b[32:])
	blocks := int64(binary.BigEndian.Uint32(b[72:]))
	n = int(binary.BigEndian.Uint32(b[76:]))
	if c.size <= 0 || c.size > store.MaxCrate || blocks != store.Blocks(c.size) || c.seq != p.number ||
		n < 1 || int64(n) > headerPages(c.size, n)+dataPages(c.size) || p.link != partLink(0, headerPages(c.size, n)) {
		return nil, 0, errHeader
	}
	return c, n, nil
}

// headerPart reads page i of the header of a crate.
func (v *volume) headerPart(number int64, seq uint64, i, of int64, raw []byte) (page, error) {
	if err := v.readPages(raw[:PageSize], number); err != nil {
		return page{}, err
	}
	p, err := v.key.decode(raw, number)
	if err != nil || p.kind != headerPage || p.number != seq || p.link != partLink(i, of) {
		return page{}, errHeader
	}
	return p, nil
}

// names reads the first page of a crate's header, whose pages have these numbers: it must
// name the crate.
func (v *volume) names(c *crate, numbers []int64, raw []byte) (page, error) {
	first, err := v.headerPart(numbers[0], c.seq, 0, int64(len(numbers)), raw)
	if err != nil {
		return page{}, err
	}
	said, n, err := headerFields(&first)
	if err != nil || said.id != c.id || said.size != c.size || said.root != c.root || n != len(c.extents) {
		return page{}, errHeader
	}
	return first, nil
}

// lies checks that a crate is where the log says, without its data: its header names it, and
// the file, which has so many bytes, does not end before its data does.
func (v *volume) lies(c *crate, size int64) error {
	header, data := c.headerData()
	left := c.size
	for _, e := range data {
		n := min(left, e.pages*PageSize)
		if left -= n; e.start*PageSize+n > size {
			return errShort
		}
	}
	_, err := v.names(c, pageNumbers(header), make([]byte, PageSize))
	return err
}

// digests reads the digests of blocks from..to (exclusive) of a crate, from
// those pages of its header that hold them, and from the first, which must name
// the crate.
func (v *volume) digests(c *crate, from, to int64) ([]store.Digest, error) {
	header, _ := c.headerData()
	numbers := pageNumbers(header)
	want := make([]byte, (to-from)*store.DigestSize)
	at := headerFixed + from*store.DigestSize
	raw := make([]byte, PageSize)
	first, err := v.names(c, numbers, raw)
	if err != nil {
		return nil, err
	}
	for done := int64(0); done < int64(len(want)); {
		i, off := (at+done)/payloadSize, (at+done)%payloadSize
		p := first
		if i > 0 {
			if p, err = v.headerPart(numbers[i], c.seq, i, int64(len(numbers)), raw); err != nil {
				return nil, err
			}
		}
		if off >= int64(len(p.payload)) {
			return nil, errHeader
		}
		done += int64(copy(want[done:], p.payload[off:]))
	}
	out := make([]store.Digest, to-from)
	for i := range out {
		copy(out[i][:], want[i*store.DigestSize:])
	}
	return out, nil
}

// readHeader reads a whole header from its first page on, following the pages by
// their own word: the way when the log is damaged.
func (v *volume) readHeader(first int64) (*crate, []store.Digest, error) {
	raw := make([]byte, PageSize)
	if err := v.readPages(raw, first); err != nil {
		return nil, nil, err
	}
	p, err := v.key.decode(raw, first)
	if err != nil {
		return nil, nil, errHeader
	}
	c, n, err := headerFields(&p)
	if err != nil {
		return nil, nil, err
	}
	pages, blocks := headerPages(c.size, n), store.Blocks(c.size)
	want := headerFixed + blocks*store.DigestSize + 8*int64(n)
	b := append([]byte(nil), p.payload...)
	for i := int64(1); i < pages; i++ {
		if p.next < firstPage || p.next >= v.limit {
			return nil, nil, errHeader
		}
		if p, err = v.headerPart(p.next, c.seq, i, pages, raw); err != nil {
			return nil, nil, err
		}
		b = append(b, p.payload...)
	}
	if int64(len(b)) != want {
		return nil, nil, errHeader
	}
	sums := store.Checksums{Size: c.size, Blocks: make([]store.Digest, blocks)}
	for i := range sums.Blocks {
		copy(sums.Blocks[i][:], b[headerFixed+i*store.DigestSize:])
	}
	for b = b[headerFixed+blocks*store.DigestSize:]; len(b) > 0; b = b[8:] {
		c.extents = append(c.extents, unpackExtent(binary.BigEndian.Uint64(b)))
	}
	if !c.valid(v.limit) || c.extents[0].start != first || sums.Root() != c.root {
		return nil, nil, errHeader
	}
	return c, sums.Blocks, nil
}
