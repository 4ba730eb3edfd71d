package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// defaultListen is where a peer listens that is told nothing.
const defaultListen = ":7440"

// options is the command line, read and checked.
type options struct {
	state      string // as given; "" means the default
	listen     string // for gRPC; "": not served
	listenHTTP string
	takeOver   bool
	logLevel   logrus.Level
	logFile    string
	help       bool
	version    bool
}

// usageError is the person's slip on the command line: exit code 2.
type usageError struct{ error }

const usage = `Usage: stasis-peer [flags]

Keeps crates for the vaults it has invited, in the foreground, until it is told to
end. ` + "`stasis peer invite`" + ` lets a vault in. Port 0 takes any that is free.

`

func newFlags(o *options, level *string) *pflag.FlagSet {
	f := pflag.NewFlagSet("stasis-peer", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SortFlags = false
	f.StringVar(&o.state, "state", "", "the peer's state `DIR` (default $XDG_DATA_HOME/stasis-peer)")
	f.StringVar(&o.listen, "listen", "", "serve gRPC at `HOST:PORT` (default "+defaultListen+", unless --listen-http is given)")
	f.StringVar(&o.listenHTTP, "listen-http", "", "serve HTTP at `HOST:PORT`")
	f.BoolVar(&o.takeOver, "take-over", false, "use the node even if another copy of this state directory used it since")
	f.StringVar(level, "log-level", "info", "`LEVEL`: error, warning, info or debug")
	f.StringVar(&o.logFile, "log-file", "", "log to `FILE` (default: to stderr)")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	return f
}

func parseArgs(args []string) (*options, error) {
	o := &options{}
	var level string
	f := newFlags(o, &level)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			o.help = true
			return o, nil
		}
		return nil, usageError{fmt.Errorf("%w; see `stasis-peer --help`", err)}
	}
	if o.help || o.version {
		return o, nil
	}
	if f.NArg() > 0 {
		return nil, usageError{fmt.Errorf("%q is one argument too many; the state directory is given with --state DIR", f.Arg(0))}
	}
	var err error
	if o.logLevel, err = logrus.ParseLevel(level); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q is none of error, warning, info, debug", level)}
	}
	for _, a := range []struct{ flag, value string }{{"listen", o.listen}, {"listen-http", o.listenHTTP}} {
		if f.Changed(a.flag) && !strings.Contains(a.value, ":") {
			return nil, usageError{fmt.Errorf("--%s %q has no port; give it as HOST:PORT", a.flag, a.value)}
		}
	}
	if o.listen == "" && o.listenHTTP == "" {
		o.listen = defaultListen
	}
	return o, nil
}

func help() string {
	var o options
	var level string
	return usage + strings.TrimRight(newFlags(&o, &level).FlagUsages(), "\n")
}
