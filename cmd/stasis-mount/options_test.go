package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestParseArgs(t *testing.T) {
	for line, want := range map[string]options{
		"/v":                                     {mountpoint: "/v"},
		"/s /v":                                  {state: "/s", mountpoint: "/v"},
		"--state /s /v --foreground --take-over": {state: "/s", mountpoint: "/v", foreground: true, takeOver: true},
		"none /v -o state=/s,rw,noatime,nofail":  {state: "/s", mountpoint: "/v", flags: mountFlags{noatime: true}},
		"/s /v -o ro,dev,suid,x-systemd.automount": {state: "/s", mountpoint: "/v", readOnly: true, flags: mountFlags{dev: true, suid: true}},
		"/s /v -o state=/s -o allow_other,noexec":  {state: "/s", mountpoint: "/v", allowOther: true, flags: mountFlags{noexec: true}},
		`/v -o state=/a\,b,_netdev,user,noauto`:    {state: "/a,b", mountpoint: "/v"},
		"/v -o ro,rw":                              {mountpoint: "/v"},
		"/v --read-only --allow-other":             {mountpoint: "/v", readOnly: true, allowOther: true},
		"/v -o dev,nodev":                          {mountpoint: "/v"},
	} {
		want.logLevel = logrus.InfoLevel
		got, err := parseArgs(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", line, *got, want)
		}
	}
}

// What is not known is refused by name: an option that does nothing would be a
// promise that is not kept.
func TestParseArgsRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                           "say where to mount",
		"a b c":                      "3 arguments are too many",
		"/v -o direct_io":            `"direct_io"`,
		"/v -o rw,uid=7":             `"uid"`,
		"/v -o state=":               "needs a directory",
		"/s /v --state /t":           "given as /s and as /t",
		"/s /v -o state=/t":          "given as /s and as /t",
		"/v --no-such":               "--no-such",
		"/v --log-level loud":        `"loud"`,
		"/s /v -o ro,remount":        "keeps its options",
		"/s /dev/fd/3 -o rw":         "setuid=USER",
		"/v -o allow_root,default_p": `"allow_root"`,
	} {
		_, err := parseArgs(strings.Fields(line))
		var slip usageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want one about %s", line, err, want)
		}
	}
}
