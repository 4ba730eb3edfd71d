package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"stasis/store"
)

// defaults are in force where the file says nothing.
const (
	defaultCopies = 1
	defaultLeast  = 1
	// DefaultBodies is the directory of bodies, counted from the file.
	DefaultBodies = "bodies"
)

var (
	topKeys  = []string{"copies", "least", "bodies", "cache"}
	peerKeys = []string{"copies"}
	nodeKeys = []string{"name", "kind", "path", "address", "peer", "capacity", "zone", "rate"}
	kinds    = []string{KindDirectory, KindContainer, KindMemory, KindGRPC, KindHTTP}
)

// Parse reads the text of the file that lies, or will lie, at path.
func Parse(path string, text []byte) (*Config, error) {
	return parse(path, text, topKeys)
}

// ParsePeer is Parse for a peer.toml.
func ParsePeer(path string, text []byte) (*Config, error) {
	return parse(path, text, peerKeys)
}

func parse(path string, text []byte, known []string) (*Config, error) {
	doc, err := scanKnown(path, text, known)
	if err != nil {
		return nil, err
	}
	return doc.config()
}

// document is the file as a list of entries with their places, which is what both
// messages and edits need.
type document struct {
	path   string
	text   []byte
	known  []string // the keys at the top
	top    []entry
	tables []table
}

// entry is `key = value`: text[from:to], the value being text[valueFrom:to].
type entry struct {
	key       string
	value     string
	number    bool // value was written as an integer
	line      int
	from, to  int
	valueFrom int
}

// table is a [[node]] with its header's place.
type table struct {
	line     int
	from, to int // the header line, without its end
	entries  []entry
}

func (d *document) fault(line int, hint, format string, args ...any) error {
	return &Error{File: d.path, Line: line, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// scan is scanKnown for a vault.toml, which is what commands edit.
func scan(path string, text []byte) (*document, error) { return scanKnown(path, text, topKeys) }

// scanKnown reads the text into entries. It refuses what no configuration has: other
// tables, nested keys, values that are neither strings nor integers.
func scanKnown(path string, text []byte, known []string) (*document, error) {
	d := &document{path: path, text: text, known: known}
	if !utf8.Valid(text) {
		return nil, d.fault(0, "", "the file is not a UTF-8 text")
	}
	// The whole file's syntax first: the parser below does not see doubled keys.
	var values map[string]any
	if err := toml.Unmarshal(text, &values); err != nil {
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			line, _ := decode.Position()
			return nil, d.fault(line, "", "%s", strings.TrimPrefix(decode.Error(), "toml: "))
		}
		return nil, d.fault(0, "", "%v", err)
	}
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		if err := d.expression(&p, p.Expression()); err != nil {
			return nil, err
		}
	}
	if err := p.Error(); err != nil {
		return nil, d.fault(0, "", "%v", err)
	}
	return d, nil
}

func (d *document) expression(p *unstable.Parser, n *unstable.Node) error {
	keys, at, line := []string{}, 0, 0
	for it := n.Key(); it.Next(); {
		k := it.Node()
		if len(keys) == 0 {
			at = int(k.Raw.Offset)
			line = d.line(at)
		}
		keys = append(keys, string(k.Data))
	}
	name := strings.Join(keys, ".")
	switch {
	case n.Kind == unstable.ArrayTable && name == "node":
		from, to := d.lineBounds(at)
		d.tables = append(d.tables, table{line: line, from: from, to: to})
		return nil
	case n.Kind == unstable.Table && name == "node":
		return d.fault(line, "write [[node]]", "a node's table has double brackets")
	case n.Kind != unstable.KeyValue:
		return d.fault(line, didYouMean(name, []string{"node"}), "unknown table %q", name)
	case len(keys) > 1:
		return d.fault(line, "", "unknown key %q", name)
	}
	v := n.Value()
	e := entry{key: name, value: string(v.Data), number: v.Kind == unstable.Integer, line: line, from: at}
	known := d.known
	if len(d.tables) > 0 {
		known = nodeKeys
	}
	if !slices.Contains(known, name) {
		return d.unknownKey(e, known)
	}
	if v.Kind != unstable.Integer && v.Kind != unstable.String {
		return d.fault(line, "", "%s must be a number or a text in quotes", name)
	}
	e.valueFrom = int(v.Raw.Offset)
	e.to = e.valueFrom + int(v.Raw.Length)
	if len(d.tables) > 0 {
		t := &d.tables[len(d.tables)-1]
		t.entries = append(t.entries, e)
	} else {
		d.top = append(d.top, e)
	}
	return nil
}

func (d *document) unknownKey(e entry, known []string) error {
	hint := didYouMean(e.key, known)
	switch {
	case hint != "":
	case e.key == "node":
		hint = "write each node as a [[node]] table of its own"
	case len(d.tables) > 0 && slices.Contains(d.known, e.key):
		hint = fmt.Sprintf("put %s above the first [[node]]", e.key)
	case len(d.tables) == 0 && slices.Contains(nodeKeys, e.key):
		hint = fmt.Sprintf("%s belongs into a [[node]] table", e.key)
	default:
		hint = "known here: " + strings.Join(known, ", ")
	}
	return d.fault(e.line, hint, "unknown key %q", e.key)
}

func (d *document) line(offset int) int { return 1 + bytes.Count(d.text[:offset], []byte{'\n'}) }

// lineBounds is the line around offset, without its end.
func (d *document) lineBounds(offset int) (from, to int) {
	from = bytes.LastIndexByte(d.text[:offset], '\n') + 1
	to = len(d.text)
	if n := bytes.IndexByte(d.text[offset:], '\n'); n >= 0 {
		to = offset + n
	}
	return from, to
}

func (d *document) config() (*Config, error) {
	c := &Config{Copies: defaultCopies, Least: defaultLeast}
	bodies := DefaultBodies
	leastLine := 0
	for _, e := range d.top {
		var err error
		switch e.key {
		case "copies":
			c.Copies, err = d.count(e)
		case "least":
			c.Least, err = d.count(e)
			leastLine = e.line
		case "bodies":
			bodies, err = d.str(e)
		case "cache":
			c.Cache, err = d.cache(e)
		}
		if err != nil {
			return nil, err
		}
	}
	if c.Least > c.Copies {
		return nil, d.fault(leastLine, "lower least, or raise copies", "least = %d is more than copies = %d", c.Least, c.Copies)
	}
	var err error
	if c.Bodies, err = absolute(d.path, bodies); err != nil {
		return nil, d.fault(0, "", "bodies: %v", err)
	}
	if len(d.tables) > MaxNodes {
		return nil, d.fault(d.tables[MaxNodes].line, "", "more than %d nodes", MaxNodes)
	}
	for _, t := range d.tables {
		n, err := d.node(t)
		if err != nil {
			return nil, err
		}
		for _, other := range c.Nodes {
			if other.Name == n.Name {
				return nil, d.fault(n.line, "give one of them another name", "two nodes have the name %q, the other at line %d", n.Name, other.line)
			}
			if other.Path == n.Path && n.Path != "" {
				return nil, d.fault(n.line, "each node needs a place of its own", "nodes %q and %q have the same path %s", other.Name, n.Name, n.Path)
			}
			if other.Peer == n.Peer && n.Peer != "" {
				return nil, d.fault(n.line, "a second way to one place is no second copy", "nodes %q and %q are the same peer", other.Name, n.Name)
			}
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c, nil
}

func (d *document) node(t table) (Node, error) {
	n := Node{line: t.line}
	line := map[string]int{}
	for _, e := range t.entries {
		line[e.key] = e.line
		var text string
		var err error
		switch e.key {
		case "capacity":
			n.Capacity, err = d.capacity(e)
		case "rate":
			n.Rate, err = d.rate(e)
		default:
			text, err = d.str(e)
		}
		if err != nil {
			return Node{}, err
		}
		switch e.key {
		case "name":
			n.Name = text
		case "kind":
			n.Kind = text
		case "path":
			n.Path = text
		case "address":
			n.Address = text
		case "peer":
			n.Peer = text
		case "zone":
			n.Zone = text
		}
	}
	for _, key := range []string{"name", "kind"} {
		if line[key] == 0 {
			return Node{}, d.fault(t.line, "", "the node has no %s", key)
		}
	}
	if err := CheckName(n.Name); err != nil {
		return Node{}, d.fault(line["name"], "", "%v", err)
	}
	if n.Zone != "" || line["zone"] != 0 {
		if err := CheckName(n.Zone); err != nil {
			return Node{}, d.fault(line["zone"], "", "%v", err)
		}
	}
	if err := d.nodeKind(&n, t.line, line); err != nil {
		return Node{}, err
	}
	return n, nil
}

func (d *document) count(e entry) (int, error) {
	n, err := strconv.Atoi(strings.ReplaceAll(e.value, "_", ""))
	if !e.number || err != nil || n < 1 || n > MaxCopies {
		return 0, d.fault(e.line, "", "%s must be a number from 1 to %d", e.key, MaxCopies)
	}
	return n, nil
}

func (d *document) str(e entry) (string, error) {
	if e.number {
		return "", d.fault(e.line, fmt.Sprintf("write %s = %q", e.key, e.value), "%s must be a text in quotes", e.key)
	}
	if strings.ContainsRune(e.value, 0) {
		return "", d.fault(e.line, "", "%s has a NUL in it", e.key)
	}
	// What is named here is shown in messages and lists ever after.
	if e.value != store.Printable(e.value, maxText) {
		return "", d.fault(e.line, "name it with letters, digits and signs that can be seen; a symbolic link gives a path another name",
			"%s has a character that can't be shown, or is too long: %.200q", e.key, e.value)
	}
	return e.value, nil
}

func (d *document) capacity(e entry) (int64, error) {
	n, err := ParseSize(strings.ReplaceAll(e.value, "_", ""))
	if err != nil {
		return 0, d.fault(e.line, "", "capacity: %v", err)
	}
	if n < MinCapacity {
		return 0, d.fault(e.line, "", "capacity: %s is too little; the least is %s", FormatSize(n), FormatSize(MinCapacity))
	}
	return n, nil
}

func (d *document) cache(e entry) (int64, error) {
	n, err := ParseSize(strings.ReplaceAll(e.value, "_", ""))
	if err != nil {
		return 0, d.fault(e.line, "", "cache: %v", err)
	}
	if n < MinCache {
		return 0, d.fault(e.line, "", "cache: %s is too little; the least is %s", FormatSize(n), FormatSize(MinCache))
	}
	return n, nil
}

func (d *document) rate(e entry) (int64, error) {
	n, err := ParseRate(strings.ReplaceAll(e.value, "_", ""))
	if err != nil {
		return 0, d.fault(e.line, "", "rate: %v", err)
	}
	return n, nil
}

// didYouMean gives a hint if word is nearly one of known.
func didYouMean(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := edits(word, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// edits is the Levenshtein distance of two words, cut at 64 bytes each.
func edits(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
