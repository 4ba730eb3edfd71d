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
		"":                               {listen: defaultListen},
		"--state /s --listen :1":         {state: "/s", listen: ":1"},
		"--listen-http nas:2":            {listenHTTP: "nas:2"},
		"--listen :1 --listen-http :2":   {listen: ":1", listenHTTP: ":2"},
		"--take-over --log-file /l":      {listen: defaultListen, takeOver: true, logFile: "/l"},
		"--listen [::1]:0 --state=/a/b/": {listen: "[::1]:0", state: "/a/b/"},
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

func TestParseArgsRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"/state":             "--state DIR",
		"--listen nas":       "has no port",
		"--listen-http 7440": "has no port",
		"--no-such":          "--no-such",
		"--log-level loud":   `"loud"`,
	} {
		_, err := parseArgs(strings.Fields(line))
		var slip usageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want one about %s", line, err, want)
		}
	}
}
