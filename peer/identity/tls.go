package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"time"

	"stasis/store"
)

// FingerprintSize is the length of a fingerprint in letters.
const FingerprintSize = 52

// The validity of a certificate: it says nothing, as what counts is the key. It is
// fixed, so that the certificate of an identity is always the same.
var (
	validFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // RFC 5280: no end
)

// maxCertificate is the largest certificate that is looked at, in bytes.
const maxCertificate = 16 << 10

// Certificate is what the identity shows to its peers: self-signed, and the same at
// each call.
func (i Identity) Certificate() (tls.Certificate, error) {
	key := i.TLSKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "stasis"},
		NotBefore:    validFrom,
		NotAfter:     validUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	// Ed25519 signatures take no random bytes: the same key gives the same certificate.
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Fingerprint is that of the identity's certificate.
func (i Identity) Fingerprint() string {
	spki, err := x509.MarshalPKIXPublicKey(i.TLSKey().Public())
	if err != nil {
		panic("marshal an Ed25519 key: " + err.Error()) // no such key can't be written
	}
	return fingerprint(spki)
}

// FingerprintOf is the fingerprint of the key in a certificate: SHA-256 over its
// SubjectPublicKeyInfo, as base32 letters.
func FingerprintOf(c *x509.Certificate) string { return fingerprint(c.RawSubjectPublicKeyInfo) }

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return FormatFingerprint(sum)
}

// FormatFingerprint writes a fingerprint.
func FormatFingerprint(sum [sha256.Size]byte) string { return encoding.EncodeToString(sum[:]) }

// ParseFingerprint reads a fingerprint; upper case, and white space around it, are
// forgiven. Invalid for anything else.
func ParseFingerprint(text string) (sum [sha256.Size]byte, err error) {
	bad := &store.Error{Kind: store.Invalid, Op: "read a fingerprint", Subject: fmt.Sprintf("%.60q", text),
		Hint: fmt.Sprintf("it has %d letters a-z and digits 2-7", FingerprintSize)}
	text = strings.ToLower(strings.TrimSpace(text))
	if len(text) != FingerprintSize {
		return sum, bad
	}
	raw, err := encoding.DecodeString(text)
	if err != nil || len(raw) != len(sum) || encoding.EncodeToString(raw) != text {
		return sum, bad
	}
	copy(sum[:], raw)
	return sum, nil
}

// ServerTLS is how a peer listens: TLS 1.3, and each client shows a certificate, of
// whatever key. Who that is follows from FingerprintOf and is the service's to decide,
// as one who is about to redeem an invite is a stranger too.
func (i Identity) ServerTLS() (*tls.Config, error) {
	cert, err := i.Certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		Certificates:     []tls.Certificate{cert},
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return checkShown(s, "") },
	}, nil
}

// ClientTLS is how a vault dials a peer: TLS 1.3, its own certificate, and no other
// peer than the one with the pinned fingerprint.
func (i Identity) ClientTLS(pinned string) (*tls.Config, error) {
	sum, err := ParseFingerprint(pinned)
	if err != nil {
		return nil, err
	}
	cert, err := i.Certificate()
	if err != nil {
		return nil, err
	}
	pinned = FormatFingerprint(sum)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Always the one certificate, whatever authorities the server names.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		// There is no authority and no name to check: VerifyConnection checks the key, in
		// every handshake, resumed ones included.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return checkShown(s, pinned) },
	}, nil
}

// checkShown tests what the other side showed: one certificate of an Ed25519 key, and
// of the pinned one if there is a pin. That it holds the key, the handshake has proven.
func checkShown(s tls.ConnectionState, pinned string) error {
	refuse := func(k store.Kind, detail, hint string) error {
		return &store.Error{Kind: k, Op: "connect", Detail: detail, Hint: hint}
	}
	if len(s.PeerCertificates) == 0 {
		return refuse(store.Denied, "the other side shows no certificate", "")
	}
	c := s.PeerCertificates[0]
	if len(c.Raw) > maxCertificate {
		return refuse(store.Denied, "the other side's certificate is too large", "")
	}
	if _, ok := c.PublicKey.(ed25519.PublicKey); !ok {
		return refuse(store.Denied, "the other side's key is not of the kind that stasis uses", "")
	}
	if got := FingerprintOf(c); pinned != "" && subtle.ConstantTimeCompare([]byte(got), []byte(pinned)) != 1 {
		return refuse(store.Denied, "the peer at this address has fingerprint "+got+", not "+pinned,
			"another machine answers there, or the peer was given a new key: ask its owner for a new invite")
	}
	return nil
}

// PeerFingerprint is that of who is at the other end of an open connection; Denied if
// it has shown no certificate.
func PeerFingerprint(s tls.ConnectionState) (string, error) {
	if err := checkShown(s, ""); err != nil {
		return "", err
	}
	return FingerprintOf(s.PeerCertificates[0]), nil
}
