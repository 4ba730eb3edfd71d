package httppeer

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"stasis/peer/wire"
	"stasis/peer/wiretest"
	"stasis/store"
)

const nasty = "\x1b[2J\x1b]0;owned\a\u009b31m\u202Egpj\u200B"

// lying is a server that answers every request with the same bytes, and a client of it.
func lying(t *testing.T, answer string) *Client {
	t.Helper()
	serverTLS, clientTLS, _ := wiretest.TLS(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerWith(c, answer)
		}
	}()
	c, err := Dial(ClientOptions{Address: l.Addr().String(), TLS: clientTLS, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func answerWith(c net.Conn, answer string) {
	defer c.Close()
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, answer)
	}
}

// What a peer says of a failure is shown to the person, whichever of the places it says it in
// that HTTP has.
func TestErrorsArePrintable(t *testing.T) {
	said := wire.Error{Kind: "unavailable", Op: nasty + "\n", Subject: nasty, Detail: nasty, Hint: nasty}
	text, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]string{
		"a status line":   "HTTP/1.1 500 " + nasty + "\r\nContent-Length: 0\r\n\r\n",
		"a long one":      "HTTP/1.1 500 " + strings.Repeat(nasty, 1000) + "\r\nContent-Length: 0\r\n\r\n",
		"no status line":  nasty + "\r\n\r\n",
		"a code":          "HTTP/1.1 \x1b[2J \r\n\r\n",
		"a header's name": "HTTP/1.1 200 OK\r\n" + nasty + "\r\n\r\n",
		"a length":        "HTTP/1.1 200 OK\r\nContent-Length: " + nasty + "\r\n\r\n",
		"an encoding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + nasty + "\r\n\r\n",
		"a body":          fmt.Sprintf("HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s", len(text), text),
		"a header":        "HTTP/1.1 503 No\r\nStasis-Error: " + headerText(&said) + "\r\nContent-Length: 0\r\n\r\n",
		"a raw header":    "HTTP/1.1 503 No\r\nStasis-Error: {\"kind\":\"" + "\u009b2J" + "\"}\r\nContent-Length: 0\r\n\r\n",
		"no message":      fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(nasty), nasty),
	} {
		c := lying(t, answer)
		_, err := c.Status(t.Context())
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if s := err.Error(); s != store.Printable(s, 4*wire.MaxErrorText+200) {
			t.Errorf("%s: %.300q", name, s)
		}
	}
	for name, header := range map[string]string{
		"an ETag": "Etag: " + nasty, "a form": "Stasis-Form: " + nasty, "a range": "Content-Range: " + nasty,
	} {
		c := lying(t, "HTTP/1.1 206 OK\r\nEtag: \""+strings.Repeat("0", 64)+"\"\r\n"+header+"\r\nContent-Length: 1\r\n\r\nx")
		_, statErr := c.Stat(t.Context(), store.CrateID{1})
		_, openErr := c.Open(t.Context(), store.CrateID{1}, 0, 1)
		for _, err := range []error{statErr, openErr} {
			if err != nil {
				if s := err.Error(); s != store.Printable(s, 4*wire.MaxErrorText+200) {
					t.Errorf("%s: %.300q", name, s)
				}
			}
		}
	}
	event := fmt.Sprintf("{\"kind\":%q}\n", "\u009b2J\u202E")
	c := lying(t, "HTTP/1.1 200 OK\r\n\r\n"+event+"{"+nasty+"\n")
	events := 0
	err = c.Events(t.Context(), wire.Cursor{}, func(e wire.Event) error {
		events++
		if e.Kind != store.Printable(e.Kind, wire.MaxEventKind) {
			t.Errorf("an event of kind %q", e.Kind)
		}
		return nil
	})
	if err == nil || events != 1 {
		t.Errorf("%d events, then %v", events, err)
	} else if s := err.Error(); s != store.Printable(s, wire.MaxErrorText) {
		t.Errorf("an event: %q", s)
	}
}
