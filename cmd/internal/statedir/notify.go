package statedir

import (
	"fmt"
	"net"
	"os"
)

// Notify tells a service manager of the daemon's state, if it wants to know: one
// datagram to $NOTIFY_SOCKET, as sd_notify(3) has it. An address that starts with @ is in
// the abstract namespace, which is how package net writes it too.
func Notify(state string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
