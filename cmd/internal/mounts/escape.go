package mounts

import (
	"fmt"
	"strings"
)

// Escape turns an absolute path into one name, as systemd-escape --path does, so
// that each mountpoint has a state directory of its own: "/" becomes "-", anything
// but letters, digits, ":", "_" and "." becomes \xNN.
func Escape(path string) string {
	path = strings.Trim(path, "/")
	if path == "" {
		return "-"
	}
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
