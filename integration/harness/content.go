package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Source gives the bytes of a number, the same each time.
func Source(number uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(number >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// Bytes gives n bytes of Source(number).
func Bytes(number uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(Source(number), b) // never ends, never fails
	return b
}

// WriteFile writes n bytes of Source(number) to a file and gives the first error of
// write, sync if asked for, and close.
func WriteFile(path string, number uint64, n int64, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(Source(number), n), make([]byte, compareBuffer))
	if err == nil && sync {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// HasContent checks that a file is n bytes of Source(number).
func HasContent(t testing.TB, path string, number uint64, n int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, got := io.LimitReader(Source(number), n), io.Reader(f)
	a, b := make([]byte, compareBuffer), make([]byte, compareBuffer)
	for at := int64(0); ; {
		na, _ := io.ReadFull(want, a)
		nb, err := io.ReadFull(got, b)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatalf("read %s at %d: %v", path, at, err)
		}
		if !bytes.Equal(a[:na], b[:nb]) {
			t.Fatalf("%s differs from what was written in the MiB at %d (%d bytes there, want %d)", path, at, nb, na)
		}
		if at += int64(na); na < len(a) {
			return
		}
	}
}

// Write writes a small file.
func Write(t testing.TB, content string, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Read reads a file.
func Read(t testing.TB, elements ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Digest is a digest of a file's content.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, f, make([]byte, compareBuffer)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
