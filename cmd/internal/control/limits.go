package control

import "time"

const (
	// MaxRequest is the longest request, in bytes.
	MaxRequest = 1 << 20
	// MaxResponse is the longest frame of an answer, in bytes; long lists come as
	// progress, in parts.
	MaxResponse = 8 << 20
	// MaxText is the most that is taken of a text in an answer, in bytes.
	MaxText = 64 << 10
	// MaxSilence is how long a client waits for the next frame.
	MaxSilence = 10 * time.Second
	// heartbeat is how often the server of a long request shows that it lives.
	heartbeat = 2 * time.Second
	// requestTimeout bounds the arrival of a request.
	requestTimeout = 10 * time.Second
	// writeTimeout bounds the sending of one frame to a client that does not read.
	writeTimeout = 30 * time.Second
	// maxConnections is how many requests are served at a time; more wait.
	maxConnections = 64
	// SocketName is the name of the socket in a state directory.
	SocketName = "control.sock"
)
