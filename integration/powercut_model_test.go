package integration

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// cutUnit is what an in-place write changes as a whole, in bytes.
const cutUnit = 4096

// cutNode is what a name leads to: an inode, known by its number.
type cutNode struct {
	ino  uint64 // 0: not known, as the call that made it did not return
	kind string // file, directory, symlink
}

// namespace is the names below a directory at some moment.
type namespace map[string]cutNode

// nameOp is one change of names, with when the program called and when it was answered.
type nameOp struct {
	text     string
	apply    func(namespace)
	start    time.Time
	end      time.Time // zero: never answered
	inodes   []uint64  // whose durability includes this
	parents  []string  // directories whose durability includes this
	answered bool
}

func put(path string, n cutNode) func(namespace) { return func(s namespace) { s[path] = n } }

func remove(path string) func(namespace) { return func(s namespace) { delete(s, path) } }

// move renames, a directory with what is below it.
func move(from, to string) func(namespace) {
	return func(s namespace) {
		delete(s, to)
		for p, n := range maps.Clone(s) {
			if p == from || strings.HasPrefix(p, from+"/") {
				delete(s, p)
				s[to+strings.TrimPrefix(p, from)] = n
			}
		}
	}
}

func (s namespace) equal(o namespace) bool {
	return maps.EqualFunc(s, o, func(a, b cutNode) bool {
		return a.kind == b.kind && (a.ino == b.ino || a.ino == 0 || b.ino == 0)
	})
}

// prefixes are the numbers of operations after which the names were as found.
func prefixes(base namespace, log []nameOp, found namespace) []int {
	s := maps.Clone(base)
	ks := []int{}
	for k := range len(log) + 1 {
		if k > 0 {
			log[k-1].apply(s)
		}
		if s.equal(found) {
			ks = append(ks, k)
		}
	}
	return ks
}

// explain says how the names found differ from those of every operation done.
func explain(base namespace, log []nameOp, found namespace) string {
	s := maps.Clone(base)
	for _, op := range log {
		op.apply(s)
	}
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(s)) {
		if f, ok := found[p]; !ok {
			fmt.Fprintf(&b, "  missing: %s %v\n", p, s[p])
		} else if f != s[p] {
			fmt.Fprintf(&b, "  %s is %v, was %v\n", p, f, s[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(found)) {
		if _, ok := s[p]; !ok {
			fmt.Fprintf(&b, "  too much: %s %v\n", p, found[p])
		}
	}
	fmt.Fprintln(&b, "the operations since the last cut:")
	for i, op := range log {
		fmt.Fprintf(&b, "  %d %s\n", i+1, op.text)
	}
	return b.String()
}

// cutContent is what one inode may hold after a cut.
type cutContent struct {
	// inPlace: written unit by unit; otherwise only as a whole.
	inPlace bool
	// wholes are the contents that may be found, the last one the newest; each whole.
	wholes [][]byte
	// replaced are the contents of what it was renamed over, while it is not durable.
	replaced [][]byte
	// torn: the newest was being written when the power went, so that its units may
	// be there or not.
	torn bool
	// units are what each unit may hold, sizes which sizes there may be.
	units [][][]byte
	sizes []int
	now   []byte // what a program would read now
	// story tells what was done to it, and past is what its units held before they were
	// durable, for the report of a failure.
	story []string
	past  map[int][][]byte
}

func (c *cutContent) tell(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

// newCutContent is a file known to be durable as it is.
func newCutContent(inPlace bool, data []byte) *cutContent {
	c := &cutContent{inPlace: inPlace, now: data, past: map[int][][]byte{}}
	c.settle("found")
	return c
}

// settle forgets everything but the present: it is durable, as how says.
func (c *cutContent) settle(how string) {
	c.tell("%s: %d bytes are durable", how, len(c.now))
	for i, u := range c.units {
		c.past[i] = append(c.past[i], u...)
	}
	c.wholes, c.replaced, c.torn = [][]byte{slices.Clone(c.now)}, nil, false
	c.units, c.sizes = nil, []int{len(c.now)}
	if !c.inPlace {
		return
	}
	for at := 0; at < len(c.now); at += cutUnit {
		c.units = append(c.units, [][]byte{unitAt(c.now, at)})
	}
}

// unitAt is a unit of a content with zeros behind its end.
func unitAt(data []byte, at int) []byte {
	u := make([]byte, cutUnit)
	if at < len(data) {
		copy(u, data[at:])
	}
	return u
}

// replace begins a new whole content, over what was there.
func (c *cutContent) replace(data []byte) {
	c.tell("%d bytes are written", len(data))
	c.now = data
	c.wholes = append(c.wholes, data)
	c.torn = true
}

// finish ends it: the file is closed.
func (c *cutContent) finish() { c.torn = false }

// inherit notes what it was renamed over: that may be found in its place until it is
// durable itself, and nothing else may, an empty file least of all.
func (c *cutContent) inherit(old *cutContent) {
	if len(c.wholes[0]) == 0 {
		c.replaced = old.mayBe()
	}
}

// mayBe are the whole contents that may be found.
func (c *cutContent) mayBe() [][]byte {
	if len(c.replaced) > 0 {
		return append(slices.Clone(c.replaced), c.wholes[1:]...)
	}
	return slices.Clone(c.wholes)
}

// change writes in place.
func (c *cutContent) change(offset int, data []byte) {
	now := slices.Clone(c.now)
	if end := offset + len(data); end > len(now) {
		now = append(now, make([]byte, end-len(now))...)
	}
	copy(now[offset:], data)
	c.become(now, offset, offset+len(data))
}

// punch makes zeros of what there is between two offsets.
func (c *cutContent) punch(from, to int) {
	to = min(to, len(c.now))
	if from >= to {
		return
	}
	now := slices.Clone(c.now)
	clear(now[from:to])
	c.become(now, from, to)
}

// truncate changes the size.
func (c *cutContent) truncate(size int) {
	now := make([]byte, size)
	copy(now, c.now)
	c.become(now, min(size, len(c.now)), max(size, len(c.now)))
}

// become records a new present that differs between two offsets, or by its size.
func (c *cutContent) become(now []byte, from, to int) {
	c.tell("%d bytes become %d, those from %d to %d change", len(c.now), len(now), from, to)
	from = min(from, len(c.now))
	c.now = now
	for at := from / cutUnit * cutUnit; at < to; at += cutUnit {
		for len(c.units) <= at/cutUnit {
			c.units = append(c.units, [][]byte{make([]byte, cutUnit)})
		}
		c.units[at/cutUnit] = append(c.units[at/cutUnit], unitAt(now, at))
	}
	c.sizes = append(c.sizes, len(now))
}

// allows says why the content found may not be, or nothing. renamed: it was found under
// the name that it got last.
func (c *cutContent) allows(found []byte, renamed bool) string {
	if c.inPlace {
		return c.allowsUnits(found)
	}
	may := c.wholes
	if renamed {
		may = c.mayBe()
	}
	if slices.ContainsFunc(may, func(w []byte) bool { return bytes.Equal(w, found) }) || c.torn && tornOf(may, found) {
		return ""
	}
	sizes := []string{}
	for _, w := range may {
		sizes = append(sizes, fmt.Sprintf("%d (%x...)", len(w), w[:min(8, len(w))]))
	}
	return fmt.Sprintf("%d bytes (%x...) are none of its contents, which had %s bytes", len(found), found[:min(8, len(found))], strings.Join(sizes, ", "))
}

// tornOf: the file was open, and each unit is of one of its contents, or a hole.
func tornOf(may [][]byte, found []byte) bool {
	longest := 0
	for _, w := range may {
		longest = max(longest, len(w))
	}
	if len(found) > longest {
		return false
	}
	all := append([][]byte{nil}, may...)
	for at := 0; at < len(found); at += cutUnit {
		have := found[at:min(at+cutUnit, len(found))]
		if !slices.ContainsFunc(all, func(w []byte) bool { return bytes.Equal(unitAt(w, at)[:len(have)], have) }) {
			return false
		}
	}
	return true
}

func (c *cutContent) allowsUnits(found []byte) string {
	least, most := slices.Min(c.sizes), slices.Max(c.sizes)
	// A large write comes in pieces of whole units.
	if !slices.Contains(c.sizes, len(found)) && (len(found) < least || len(found) > most || len(found)%cutUnit != 0) {
		return fmt.Sprintf("it has %d bytes, and had %v", len(found), c.sizes)
	}
	for at := 0; at < len(found); at += cutUnit {
		have := found[at:min(at+cutUnit, len(found))]
		may := [][]byte{make([]byte, cutUnit)}
		if i := at / cutUnit; i < len(c.units) {
			may = c.units[i]
		}
		if !slices.ContainsFunc(may, func(u []byte) bool { return bytes.Equal(u[:len(have)], have) }) {
			was := slices.ContainsFunc(c.past[at/cutUnit], func(u []byte) bool { return bytes.Equal(u[:len(have)], have) })
			return fmt.Sprintf("the unit at %d (of %d bytes, had %v) is none of its %d contents: %x... (one of before: %v)", at, len(found), c.sizes, len(may), have[:min(16, len(have))], was)
		}
	}
	return ""
}
