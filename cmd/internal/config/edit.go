package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// An edit turns the text of a file into another one. Edits work on the text, not
// on what was read from it, so that comments and order stay as the person wrote
// them.

// SetCount gives the text with the setting key (copies or least) at n.
func SetCount(path string, text []byte, key string, n int) ([]byte, error) {
	d, err := scan(path, text)
	if err != nil {
		return nil, err
	}
	value := strconv.Itoa(n)
	for _, e := range d.top {
		if e.key == key {
			return splice(text, e.valueFrom, e.to, value), nil
		}
	}
	line := key + " = " + value + "\n"
	if len(d.top) > 0 {
		at := d.after(d.top[len(d.top)-1].to)
		return insertLines(text, at, line), nil
	}
	if len(d.tables) > 0 {
		return insertLines(text, d.attached(d.tables[0].from), line+"\n"), nil
	}
	return insertLines(text, len(text), line), nil
}

// AddNode gives the text with a [[node]] table for n behind all others. Its path
// is written as it is in n.
func AddNode(path string, text []byte, n Node) ([]byte, error) {
	if _, err := scan(path, text); err != nil {
		return nil, err
	}
	var b strings.Builder
	if len(bytes.TrimSpace(text)) > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "[[node]]\nname = %s\nkind = %s\n", quote(n.Name), quote(n.Kind))
	if n.Path != "" {
		fmt.Fprintf(&b, "path = %s\n", quote(n.Path))
	}
	if n.Address != "" {
		fmt.Fprintf(&b, "address = %s\n", quote(n.Address))
	}
	if n.Peer != "" {
		fmt.Fprintf(&b, "peer = %s\n", quote(n.Peer))
	}
	if n.Capacity > 0 {
		fmt.Fprintf(&b, "capacity = %s\n", quote(exactSize(n.Capacity)))
	}
	if n.Zone != "" {
		fmt.Fprintf(&b, "zone = %s\n", quote(n.Zone))
	}
	if n.Rate > 0 {
		fmt.Fprintf(&b, "rate = %s\n", quote(exactSize(n.Rate)+"/s"))
	}
	return insertLines(text, len(text), b.String()), nil
}

// RemoveNode gives the text without the [[node]] table of that name, the comment
// lines directly above its header and those directly below its last line.
func RemoveNode(path string, text []byte, name string) ([]byte, error) {
	d, err := scan(path, text)
	if err != nil {
		return nil, err
	}
	for i, t := range d.tables {
		if !t.named(name) {
			continue
		}
		from, to := d.attached(t.from), d.after(t.to)
		if k := len(t.entries); k > 0 {
			to = d.after(t.entries[k-1].to)
		}
		limit := len(text)
		if i+1 < len(d.tables) {
			limit = d.attached(d.tables[i+1].from)
		}
		for to < limit && d.comment(to) {
			to = d.after(to)
		}
		// One of the blank lines around it goes too.
		if to < limit && d.blank(to) {
			to = d.after(to)
		} else if start := d.before(from); from > 0 && d.blank(start) {
			from = start
		}
		return splice(text, from, to, ""), nil
	}
	return nil, d.fault(0, "", "there is no node %q", name)
}

func (t *table) named(name string) bool {
	for _, e := range t.entries {
		if e.key == "name" && e.value == name {
			return true
		}
	}
	return false
}

// after is the start of the line behind the one offset lies in.
func (d *document) after(offset int) int {
	_, to := d.lineBounds(offset)
	return min(to+1, len(d.text))
}

// before is the start of the line before the one that starts at offset.
func (d *document) before(offset int) int {
	from, _ := d.lineBounds(max(offset-1, 0))
	return from
}

// attached is the start of the comment lines directly above the line at offset, or
// offset itself.
func (d *document) attached(offset int) int {
	for offset > 0 {
		above := d.before(offset)
		if !d.comment(above) {
			break
		}
		offset = above
	}
	return offset
}

func (d *document) comment(start int) bool {
	from, to := d.lineBounds(start)
	return bytes.HasPrefix(bytes.TrimSpace(d.text[from:to]), []byte("#"))
}

func (d *document) blank(start int) bool {
	from, to := d.lineBounds(start)
	return len(bytes.TrimSpace(d.text[from:to])) == 0
}

func splice(text []byte, from, to int, with string) []byte {
	return bytes.Join([][]byte{text[:from], text[to:]}, []byte(with))
}

// insertLines puts whole lines at the start of a line, or at the end of a text
// whose last line may lack its end.
func insertLines(text []byte, at int, lines string) []byte {
	if at > 0 && text[at-1] != '\n' {
		lines = "\n" + lines
	}
	return splice(text, at, at, lines)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Edit applies change to the file at path and gives the configuration that the
// new file says. meant tells what it should say, from what the old one said; where
// the edited text would say anything else, the file stays as it is. When Edit
// returns, the change survives a power cut. The caller sees to it that one edit
// runs at a time.
func Edit(path string, change func(text []byte) ([]byte, error), meant func(*Config)) (*Config, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	want, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	meant(want)
	edited, err := change(text)
	if err != nil {
		return nil, err
	}
	got, err := Parse(path, edited)
	if err != nil {
		return nil, err
	}
	if !got.Equal(want) {
		return nil, &Error{File: path, Message: "the change can't be written into this file safely", Hint: "make it by hand"}
	}
	return got, Write(path, edited)
}

// Write replaces the file at path, or what a symlink there leads to, atomically
// and durably. The mode of an existing file stays.
func Write(path string, text []byte) error {
	mode := os.FileMode(0o600)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".vault-*.toml")
	if err != nil {
		return fmt.Errorf("write the configuration %s: %w", path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("write the configuration %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write the configuration %s: %w", path, err)
	}
	return nil
}
