package peerd

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"stasis/cmd/internal/config"
	"stasis/peer/invite"
	"stasis/store"
)

// addresses completes an invite with how others reach the peer: what the person gave, or
// where it listens.
func addresses(in *invite.Invite, given []string, served []Served) error {
	if len(given) > MaxAddresses {
		return cantInvite(fmt.Sprintf("%d addresses; %d are the most", len(given), MaxAddresses), "")
	}
	var all []Served
	for _, g := range given {
		more, err := reading(g, served)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	if len(given) == 0 {
		for _, s := range served {
			if wildcard(s.Address) {
				_, port, _ := net.SplitHostPort(s.Address) // it listens there
				return cantInvite("it listens on every address of this machine, at port "+port,
					"say by which name others reach it: --address HOST:"+port)
			}
		}
		all = served
	}
	if len(all) == 0 {
		return cantInvite("it has not run yet, so it is not known where it listens", "start it with stasis-peer first, or say --address HOST:PORT")
	}
	for _, s := range all {
		if s.Protocol == config.KindHTTP {
			in.HTTP = append(in.HTTP, s.Address)
		} else {
			in.GRPC = append(in.GRPC, s.Address)
		}
	}
	return nil
}

// reading tells what an address stands for: HOST alone for the host at each served
// port; HOST:PORT for the protocol that is served at the port, or, where another port
// leads here, for the first; https://HOST:PORT for HTTP.
func reading(given string, served []Served) ([]Served, error) {
	address, protocol := given, ""
	if u, err := url.Parse(given); err == nil && u.Scheme == "https" && strings.Trim(u.Path, "/") == "" {
		address, protocol = u.Host, config.KindHTTP
	}
	var all []Served
	_, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		host := strings.Trim(address, "[]")
		for _, s := range served {
			if _, port, err := net.SplitHostPort(s.Address); err == nil && (protocol == "" || protocol == s.Protocol) {
				all = append(all, Served{s.Protocol, net.JoinHostPort(host, port)})
			}
		}
		if len(all) == 0 {
			return nil, cantInvite(fmt.Sprintf("--address %q has no port", given), "give it as HOST:PORT")
		}
	default:
		for _, s := range served {
			if _, p, err := net.SplitHostPort(s.Address); err == nil && p == port && protocol == "" {
				protocol = s.Protocol
			}
		}
		if protocol == "" && len(served) > 0 {
			protocol = served[0].Protocol
		}
		all = []Served{{protocol, address}}
	}
	for _, s := range all {
		if err := invite.CheckAddress(s.Address); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// wildcard reports whether an address to listen at names no host.
func wildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "" || ip != nil && ip.IsUnspecified())
}

// onlyHere reports whether none of the addresses leads here from another machine.
func onlyHere(in invite.Invite) bool {
	for _, list := range [][]string{in.GRPC, in.HTTP} {
		for _, a := range list {
			host, _, _ := net.SplitHostPort(a) // CheckAddress has been through it
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return false
			}
		}
	}
	return true
}

func cantInvite(detail, hint string) error {
	return &store.Error{Kind: store.Invalid, Op: "make an invite", Detail: detail, Hint: hint}
}
