package httppeer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

// A peer that answers a vault who listens with signs of life as fast as they are taken, for which
// it needs a byte each, does not keep a processor of the vault's busy.
func TestFloodOfSignsOfLife(t *testing.T) {
	for what, line := range map[string]string{"empty lines": "\n", "events": `{"kind":"alive"}` + "\n"} {
		serverTLS, clientTLS, _ := wiretest.TLS(t)
		plainHTTP(serverTLS)
		l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return // the client says why
			}
			_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n")
			lines := bytes.Repeat([]byte(line), 1000)
			chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", len(lines), lines)
			for err == nil { // until it is hung up on
				_, err = c.Write(chunk)
			}
		}()
		c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		heard := make(chan error, 1)
		go func() { heard <- c.Events(t.Context(), wire.Cursor{}, func(wire.Event) error { return nil }) }()
		select {
		case err := <-heard:
			if !errors.Is(err, store.Invalid) {
				t.Errorf("a flood of %s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("a flood of %s is listened to without end", what)
			c.Close()
		}
		<-done
	}
}
