package identity

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"

	"stasis/store"
)

const (
	// textPrefix opens the line of the secret; the digit is the format's version.
	textPrefix = "stasis-key-1"
	// checkSize is the length of the checksum behind the secret, in bytes. With it the
	// text is 64 letters: eight groups of eight.
	checkSize = 8
	// groupSize is how many letters stand together.
	groupSize = 8
	// maxText is the longest text that is read as a key, in bytes.
	maxText = 4096
)

// encoding is base32 without the letters 0, 1, 8 and 9, in lower case.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const textHeader = `# The key of a stasis vault. Whoever has it can read the vault and speak in its name;
# without it nobody can, you included. Keep a copy where the vault's disks are not.
`

// Text is the secret in the form that is exported and kept in STATE/key; see
// FORMAT.md.
func (i Identity) Text() []byte {
	check := checksum(i.secret[:])
	letters := encoding.EncodeToString(append(i.secret[:len(i.secret):len(i.secret)], check...))
	var b bytes.Buffer
	b.WriteString(textHeader)
	b.WriteString(textPrefix)
	for n := 0; n < len(letters); n += groupSize {
		if n == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteByte('-')
		}
		b.WriteString(letters[n : n+groupSize])
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Parse reads what Text wrote, or what a person typed from it: upper case, spaces
// and missing dashes are forgiven, anything else is Corrupt or Invalid with a
// sentence.
func Parse(text []byte) (Identity, error) {
	if len(text) > maxText {
		return Identity{}, badKey("it is far too long to be a key")
	}
	var line string
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		l := strings.TrimSpace(scanner.Text())
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case line != "":
			return Identity{}, badKey("more than one line is not a comment")
		default:
			line = l
		}
	}
	if err := scanner.Err(); err != nil {
		return Identity{}, badKey("it is not a text")
	}
	if line == "" {
		return Identity{}, badKey("it is empty")
	}
	return parseLine(strings.ToLower(line))
}

func parseLine(line string) (Identity, error) {
	rest, ok := strings.CutPrefix(line, textPrefix)
	if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
		if strings.HasPrefix(line, "stasis-key-") {
			return Identity{}, &store.Error{Kind: store.Invalid, Op: "read the key", Detail: "its format is newer than this program",
				Hint: "use the release of stasis that wrote it, or a later one"}
		}
		return Identity{}, badKey("it does not start with " + textPrefix)
	}
	letters := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, rest)
	if want := encoding.EncodedLen(SecretSize + checkSize); len(letters) != want {
		return Identity{}, badKey(lengthDetail(len(letters), want))
	}
	raw, err := encoding.DecodeString(letters)
	if err != nil {
		return Identity{}, badKey("it has a letter that no key has; only a-z and 2-7 occur")
	}
	secret, check := raw[:SecretSize], raw[SecretSize:]
	if subtle.ConstantTimeCompare(check, checksum(secret)) != 1 {
		return Identity{}, badKey("its checksum does not match: a letter was mistyped or damaged")
	}
	var i Identity
	copy(i.secret[:], secret)
	return i, nil
}

func lengthDetail(have, want int) string {
	if have < want {
		return "it is cut short"
	}
	return "it has letters too many"
}

func badKey(detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: "read the key", Detail: detail, Hint: "use the text that `stasis key export` printed"}
}

// checksum notices typing errors and damage; it keeps nothing secret.
func checksum(secret []byte) []byte {
	h := sha256.New()
	h.Write([]byte(textPrefix))
	h.Write(secret)
	return h.Sum(nil)[:checkSize]
}
