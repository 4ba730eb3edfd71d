package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
)

// bareCommand makes this program the other end of bare streams: a server that drops what
// it is sent and makes up what it is asked for.
const bareCommand = "bare"

// codec passes the bytes of messages through.
type codec struct{}

// Name is part of the content type.
func (codec) Name() string { return "bytes" }

// Marshal takes the bytes as they lie.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(p)}, nil
}

// Unmarshal counts the bytes, which are dropped with the transport's buffers.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	n, ok := v.(*int)
	if !ok {
		return fmt.Errorf("unmarshal into %T: not a count", v)
	}
	*n = data.Len()
	return nil
}

// bareServe serves bare streams over TLS until it is killed, and prints where.
func bareServe(out io.Writer) error {
	config, err := bareTLS()
	if err != nil {
		return err
	}
	viaGRPC, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	viaHTTP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, viaGRPC.Addr(), viaHTTP.Addr()); err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.ForceServerCodecV2(codec{}), grpc.InitialWindowSize(bareWindow), grpc.InitialConnWindowSize(bareWindow))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bare", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "put", ClientStreams: true, ServerStreams: true, Handler: takeStream},
		{StreamName: "get", ServerStreams: true, Handler: giveStream},
	}}, nil)
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(viaGRPC) }()
	plain := config.Clone()
	plain.NextProtos = []string{"http/1.1"}
	h := &http.Server{TLSConfig: plain, Handler: http.HandlerFunc(bareHTTP), ReadHeaderTimeout: mountTimeout}
	go func() { ended <- h.ServeTLS(viaHTTP, "", "") }()
	return <-ended
}

func bareTLS() (*tls.Config, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

func takeStream(_ any, st grpc.ServerStream) error {
	for {
		var n int
		if err := st.RecvMsg(&n); err == io.EOF {
			return st.SendMsg([]byte{1})
		} else if err != nil {
			return err
		}
	}
}

func giveStream(_ any, st grpc.ServerStream) error {
	var n int
	if err := st.RecvMsg(&n); err != nil {
		return err
	}
	p := make([]byte, barePiece)
	for range hugeSize / barePiece {
		if err := st.SendMsg(p); err != nil {
			return err
		}
	}
	return nil
}

func bareHTTP(w http.ResponseWriter, r *http.Request) {
	p := make([]byte, barePiece)
	if r.Method != http.MethodGet {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, p) // a sender that breaks off sees it too
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(hugeSize))
	for range hugeSize / barePiece {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}

// startBare runs the other end in a process of its own.
func (b *bench) startBare() (far *system, viaGRPC, viaHTTP string, err error) {
	far = &system{name: "bare"}
	out, err := os.Create(b.base + "/bare.out")
	if err != nil {
		return nil, "", "", err
	}
	defer out.Close()
	if err := far.startTo(out, []string{b.self, bareCommand}); err != nil {
		return nil, "", "", err
	}
	err = await(func() bool {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			return false
		}
		n, _ := fmt.Sscanln(string(text), &viaGRPC, &viaHTTP) // not all of the line is there yet
		return n == 2
	})
	if err != nil {
		return nil, "", "", errors.Join(fmt.Errorf("the bare server: %w: %s", err, far.stderr), far.close())
	}
	return far, viaGRPC, viaHTTP, nil
}

// bareGRPC moves hugeSize bytes over one stream of messages, up or down.
func bareGRPC(ctx context.Context, address string, up bool) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})), grpc.WithInitialWindowSize(bareWindow), grpc.WithInitialConnWindowSize(bareWindow))
	if err != nil {
		return err
	}
	defer conn.Close()
	name := "/bare/get"
	if up {
		name = "/bare/put"
	}
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: up, ServerStreams: true}, name)
	if err != nil {
		return err
	}
	p := make([]byte, barePiece)
	if up {
		for range hugeSize / barePiece {
			if err := st.SendMsg(p); err != nil {
				return err
			}
		}
	} else if err := st.SendMsg([]byte{1}); err != nil {
		return err
	}
	if err := st.CloseSend(); err != nil {
		return err
	}
	for {
		var n int
		if err := st.RecvMsg(&n); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// barePlain moves hugeSize bytes by one PUT or GET over HTTP/1.1.
func barePlain(ctx context.Context, address string, up bool) error {
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer t.CloseIdleConnections()
	method, body := http.MethodGet, io.Reader(nil)
	if up {
		method, body = http.MethodPut, io.LimitReader(zeros{}, hugeSize)
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+address, body)
	if err != nil {
		return err
	}
	if up {
		r.ContentLength = hugeSize
	}
	answer, err := (&http.Client{Transport: t}).Do(r)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, answer.Body, make([]byte, barePiece))
	return errors.Join(err, answer.Body.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
