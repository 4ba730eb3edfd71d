package mount

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// maxSaid bounds what is kept of the words of a program, in bytes.
const maxSaid = 4 << 10

// overhearing is held by whoever has os.Stderr lead elsewhere.
var overhearing sync.Mutex

// overhear gives what programs say on standard error that do starts. go-fuse hands ours to
// fusermount3, and only there that says why it does not mount.
func overhear(do func() error) (string, error) {
	overhearing.Lock()
	defer overhearing.Unlock()
	r, w, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("listen to fusermount3: %w", err)
	}
	defer r.Close()
	said := make(chan string)
	go func() {
		// What can't be read was not said.
		text, _ := io.ReadAll(io.LimitReader(r, maxSaid))
		said <- strings.TrimSpace(string(text))
	}()
	ours := os.Stderr
	os.Stderr = w
	err = do()
	os.Stderr = ours
	w.Close()
	return <-said, err
}
