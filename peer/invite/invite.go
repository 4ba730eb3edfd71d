package invite

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"stasis/peer/identity"
	"stasis/store"
)

// prefix opens the text; the digit is the format's version.
const prefix = "stasis-invite-1-"

const family = "stasis-invite-"

// letters are those of a key.
var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Invite is what a peer offers to one vault.
type Invite struct {
	// Fingerprint is that of the peer; see identity.Fingerprint.
	Fingerprint string
	// GRPC and HTTP are where it listens for each protocol, as host:port; at least one
	// address in all.
	GRPC, HTTP []string
	Secret     [SecretSize]byte
	// Expires is in whole seconds.
	Expires time.Time
}

// Format keeps every verb from printing the secret.
func (i Invite) Format(f fmt.State, _ rune) { fmt.Fprint(f, "invite of "+i.Fingerprint) }

// Text is the invite as it is pasted: one word. Invalid if the invite is not as it
// must be.
func (i Invite) Text() (string, error) {
	sum, err := identity.ParseFingerprint(i.Fingerprint)
	if err != nil {
		return "", err
	}
	if len(i.GRPC)+len(i.HTTP) == 0 {
		return "", bad("it has no address")
	}
	if s := i.Expires.Unix(); s <= 0 {
		return "", bad("its end is not a time")
	}
	b := append(sum[:], i.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(i.Expires.Unix()))
	for _, list := range [][]string{i.GRPC, i.HTTP} {
		if len(list) > MaxAddresses {
			return "", bad(fmt.Sprintf("%d addresses; %d are the most", len(list), MaxAddresses))
		}
		b = append(b, byte(len(list)))
		for _, a := range list {
			if err := CheckAddress(a); err != nil {
				return "", err
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(a)))
			b = append(b, a...)
		}
	}
	return prefix + letters.EncodeToString(append(b, check(b)...)), nil
}

// Parse reads what Text wrote. Upper case, and white space, dashes and quotes anywhere,
// are forgiven. Anything else is Corrupt, or Invalid for a format that is newer.
func Parse(text string) (Invite, error) {
	if len(text) > maxText {
		return Invite{}, damaged("it is far too long to be an invite")
	}
	word := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune("-'\"`", r) {
			return -1
		}
		return r
	}, strings.ToLower(text))
	rest, ok := strings.CutPrefix(word, strings.ReplaceAll(prefix, "-", ""))
	if !ok {
		if strings.HasPrefix(word, strings.ReplaceAll(family, "-", "")) {
			return Invite{}, &store.Error{Kind: store.Invalid, Op: opRead, Detail: "its format is newer than this program", Hint: "update stasis on this machine"}
		}
		return Invite{}, damaged("it does not start with " + prefix)
	}
	b, err := letters.DecodeString(rest)
	if err != nil {
		return Invite{}, damaged("it has a letter that no invite has, or is cut short")
	}
	// One invite has one text: the unused bits of the last letter are zero.
	if letters.EncodeToString(b) != rest || len(b) < checkSize {
		return Invite{}, damaged("it is cut short or damaged")
	}
	body, sum := b[:len(b)-checkSize], b[len(b)-checkSize:]
	if subtle.ConstantTimeCompare(sum, check(body)) != 1 {
		return Invite{}, damaged("its checksum does not match: it is cut short or damaged")
	}
	return decode(body)
}

const opRead = "read the invite"

// decode reads the bytes behind a good checksum, which whoever wrote them may have
// chosen all the same.
func decode(b []byte) (i Invite, err error) {
	const fixed = sha256.Size + SecretSize + 8
	if len(b) < fixed {
		return Invite{}, damaged("it is too short")
	}
	i.Fingerprint = identity.FormatFingerprint([sha256.Size]byte(b))
	copy(i.Secret[:], b[sha256.Size:])
	seconds := binary.BigEndian.Uint64(b[fixed-8:])
	if seconds == 0 || seconds > 1<<40 {
		return Invite{}, damaged("its end is not a time")
	}
	i.Expires = time.Unix(int64(seconds), 0).UTC()
	b = b[fixed:]
	for _, list := range []*[]string{&i.GRPC, &i.HTTP} {
		if *list, b, err = addresses(b); err != nil {
			return Invite{}, err
		}
	}
	if len(b) > 0 || len(i.GRPC)+len(i.HTTP) == 0 {
		return Invite{}, damaged("it has no address, or more than addresses")
	}
	return i, nil
}

func addresses(b []byte) (list []string, rest []byte, err error) {
	if len(b) == 0 || int(b[0]) > MaxAddresses {
		return nil, nil, damaged("its addresses are not as they should be")
	}
	n := int(b[0])
	b = b[1:]
	for range n {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, nil, damaged("an address is cut short")
		}
		size := int(binary.BigEndian.Uint16(b))
		a := string(b[2 : 2+size])
		if err := CheckAddress(a); err != nil {
			return nil, nil, damaged("an address is not as it should be")
		}
		list, b = append(list, a), b[2+size:]
	}
	return list, b, nil
}

// CheckAddress tells whether a peer can be dialled at an address: a host and a port,
// neither empty nor a wildcard. Invalid if not.
func CheckAddress(a string) error {
	refuse := func(detail string) error {
		return &store.Error{Kind: store.Invalid, Op: "read an address", Subject: fmt.Sprintf("%.80q", a), Detail: detail,
			Hint: "give it as HOST:PORT, as others reach it"}
	}
	if len(a) > MaxAddress {
		return refuse("it is too long")
	}
	if a != store.Printable(a, MaxAddress) || strings.Contains(a, " ") || strings.ContainsRune(a, utf8.RuneError) {
		return refuse("it has a character that no address has")
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return refuse("it is not a host and a port")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return refuse("it does not say which machine")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return refuse("its port is not a number from 1 to 65535")
	}
	return nil
}

func bad(detail string) error {
	return &store.Error{Kind: store.Invalid, Op: "make an invite", Detail: detail}
}

func damaged(detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: opRead, Detail: detail, Hint: "copy the whole line that `stasis peer invite` printed"}
}

// check notices damage; it keeps nothing secret.
func check(body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(prefix))
	h.Write(body)
	return h.Sum(nil)[:checkSize]
}
