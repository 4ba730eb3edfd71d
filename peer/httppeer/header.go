package httppeer

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"stasis/peer/wire"
	"stasis/store"
)

// The headers that are ours.
const (
	headerReservation = "Stasis-Reservation" // of a put: what it draws from
	headerForm        = "Stasis-Form"        // plain or sealed
	headerExpect      = "Stasis-Expect"      // of a put: the root digest it must have
	headerSize        = "Stasis-Size"        // of the whole crate
	headerOffset      = "Stasis-Offset"      // where the peer wants the bytes from
	headerMount       = "Stasis-Mount"       // the token with which the mount that calls was admitted, in hexadecimal
	headerUnverified  = "Stasis-Unverified"  // of a read: 1 if the reader checks the bytes itself
	headerSignature   = "Stasis-Signature"   // of a discard
	headerError       = "Stasis-Error"       // a wire.Error, where no body can tell it
)

var formNames = map[store.Form]string{store.Plain: "plain", store.Sealed: "sealed"}

func malformed(format string, args ...any) error {
	return &store.Error{Kind: store.Invalid, Op: "read a request", Detail: store.Printable(fmt.Sprintf(format, args...), wire.MaxErrorText)}
}

// parseNumber reads a decimal number without sign.
func parseNumber(s string) (int64, bool) {
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// contentRange writes which bytes of how many a body brings. Without any, offset must be
// the size.
func contentRange(offset, length, size int64) string {
	if length == 0 {
		return fmt.Sprintf("bytes */%d", size)
	}
	return fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, size)
}

// parseContentRange reads what contentRange writes.
func parseContentRange(s string) (offset, length, size int64, err error) {
	bad := malformed("Content-Range %.60q", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	part, total, cut := strings.Cut(rest, "/")
	if !ok || !cut {
		return 0, 0, 0, bad
	}
	if size, ok = parseNumber(total); !ok {
		return 0, 0, 0, bad
	}
	if part == "*" {
		return size, 0, size, nil
	}
	from, to, cut := strings.Cut(part, "-")
	first, ok1 := parseNumber(from)
	last, ok2 := parseNumber(to)
	if !cut || !ok1 || !ok2 || first > last || last >= size {
		return 0, 0, 0, bad
	}
	return first, last - first + 1, size, nil
}

// parseRange reads a Range. ok is false where there is none, or one that a server may pass
// over: of other units, of several parts. A range outside the size is Invalid.
func parseRange(s string, size int64) (offset, length int64, ok bool, err error) {
	rest, isBytes := strings.CutPrefix(s, "bytes=")
	from, to, cut := strings.Cut(rest, "-")
	if !isBytes || !cut || strings.Contains(rest, ",") {
		return 0, 0, false, nil
	}
	outside := &store.Error{Kind: store.Invalid, Op: "read a range", Detail: fmt.Sprintf("%.60q of %d bytes", s, size)}
	last, hasLast := parseNumber(to)
	if from == "" {
		switch {
		case !hasLast:
			return 0, 0, false, nil
		case last == 0 || size == 0:
			return 0, 0, false, outside
		}
		last = min(last, size)
		return size - last, last, true, nil
	}
	first, valid := parseNumber(from)
	if !valid || to != "" && (!hasLast || last < first) {
		return 0, 0, false, nil
	}
	if first >= size {
		return 0, 0, false, outside
	}
	if !hasLast || last >= size {
		last = size - 1
	}
	return first, last - first + 1, true, nil
}

// etag is the root digest, quoted.
func etag(root store.Digest) string { return `"` + root.String() + `"` }

func parseETag(s string) (d store.Digest, err error) {
	bad := malformed("ETag %.80q", s)
	if len(s) != 2+2*store.DigestSize || s[0] != '"' || s[len(s)-1] != '"' {
		return d, bad
	}
	if d.UnmarshalText([]byte(s[1:len(s)-1])) != nil {
		return d, bad
	}
	return d, nil
}

// writeHead puts what a put says of a crate into a header.
func writeHead(h http.Header, p wire.PutHead) {
	h.Set(headerReservation, p.Reservation.String())
	h.Set(headerForm, formNames[store.Form(p.Form)])
	h.Set(headerSize, strconv.FormatInt(p.Size, 10))
	if p.Expect != nil {
		h.Set(headerExpect, p.Expect.String())
	}
}

// readHead reads what writeHead wrote; the size may be left to a Content-Range.
func readHead(crate store.CrateID, h http.Header) (p wire.PutHead, err error) {
	p.Crate = crate
	if err := p.Reservation.UnmarshalText([]byte(h.Get(headerReservation))); err != nil {
		return p, malformed("%s %.60q is no id of a reservation", headerReservation, h.Get(headerReservation))
	}
	form, err := parseForm(h.Get(headerForm))
	if err != nil {
		return p, err
	}
	p.Form = uint8(form)
	if s := h.Get(headerSize); s != "" {
		n, ok := parseNumber(s)
		if !ok {
			return p, malformed("%s %.60q", headerSize, s)
		}
		p.Size = n
	}
	if s := h.Get(headerExpect); s != "" {
		p.Expect = new(store.Digest)
		if p.Expect.UnmarshalText([]byte(s)) != nil {
			return p, malformed("%s %.80q is no digest of %d hexadecimal digits", headerExpect, s, hex.EncodedLen(store.DigestSize))
		}
	}
	return p, nil
}

func parseForm(s string) (store.Form, error) {
	for f, name := range formNames {
		if s == name || s == "" && f == store.Plain {
			return f, nil
		}
	}
	return 0, malformed("%s %.60q is neither plain nor sealed", headerForm, s)
}

// parseBase64 reads raw bytes, n at most; none for nothing.
func parseBase64(what, s string, n int) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	if base64.StdEncoding.DecodedLen(len(s)) > n+2 {
		return nil, malformed("%s of %d letters", what, len(s))
	}
	p, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(p) > n {
		return nil, malformed("%s %.60q is not %d bytes in base64", what, s, n)
	}
	return p, nil
}
