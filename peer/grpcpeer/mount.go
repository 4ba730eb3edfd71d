package grpcpeer

import (
	"context"

	"google.golang.org/grpc/metadata"

	"stasis/store"
)

// mountKey is the header in which a call says of which mount it is: the token with which that
// was admitted, in hexadecimal.
const mountKey = "stasis-mount"

// asMount has the calls made with a context say of which mount they are, once that has been
// admitted.
func (c *Client) asMount(ctx context.Context) context.Context {
	t := c.mount.Load()
	if t == nil {
		return ctx
	}
	text, _ := t.MarshalText() // never fails
	return metadata.AppendToOutgoingContext(ctx, mountKey, string(text))
}

// mountOf is the mount of which a call is; zero if it does not say.
func mountOf(ctx context.Context) (t store.Token, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if said := md.Get(mountKey); len(said) > 0 && t.UnmarshalText([]byte(said[0])) != nil {
		err = malformed("the token of a mount")
	}
	return t, err
}
