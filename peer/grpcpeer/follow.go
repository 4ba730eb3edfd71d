package grpcpeer

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frameHeaderLen is the length of the header of a frame in HTTP/2: three bytes of length, one
// of the type, one of flags, four of the stream.
const frameHeaderLen = 9

// follower follows the frames of one direction of a connection, in whatever pieces they come.
type follower struct {
	header  [frameHeaderLen]byte
	have    int   // bytes of the header that came
	skip    int64 // bytes of the frame that follow
	preface int   // bytes that are left of what comes before the frames
}

// frameSeen is what the header of a frame says.
type frameSeen struct {
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
	length int64 // bytes
}

// follow calls seen for each frame that begins in p.
func (f *follower) follow(p []byte, seen func(frameSeen)) {
	for len(p) > 0 {
		switch {
		case f.preface > 0:
			n := min(f.preface, len(p))
			f.preface -= n
			p = p[n:]
		case f.skip > 0:
			n := min(f.skip, int64(len(p)))
			f.skip -= n
			p = p[n:]
		default:
			n := copy(f.header[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have == frameHeaderLen {
				f.have = 0
				f.skip = int64(binary.BigEndian.Uint32(f.header[:]) >> 8)
				seen(frameSeen{http2.FrameType(f.header[3]), http2.Flags(f.header[4]), binary.BigEndian.Uint32(f.header[5:]) &^ (1 << 31), f.skip})
			}
		}
	}
}

// small reports whether a frame is one of those that are counted. Headers are not, and no
// data that end a call: how many calls there are is bounded.
func (f frameSeen) small() bool {
	switch f.kind {
	case http2.FrameHeaders:
		return false
	case http2.FrameData:
		return f.length < smallFrame && !f.flags.Has(http2.FlagDataEndStream)
	}
	return true
}
