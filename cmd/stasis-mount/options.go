package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// options is the command line, read and checked.
type options struct {
	state      string // as given; "" means the default
	mountpoint string
	foreground bool
	readOnly   bool
	allowOther bool
	takeOver   bool
	logLevel   logrus.Level
	logFile    string
	flags      mountFlags
	help       bool
	version    bool
}

// mountFlags are what the kernel does for a mount by itself.
type mountFlags struct {
	dev, suid, noexec, noatime, check bool
}

// usageError is the person's slip on the command line: exit code 2.
type usageError struct{ error }

const usage = `Usage: stasis-mount [flags] [STATE] MOUNTPOINT

Mounts a vault and goes on in the background. What any program writes below
MOUNTPOINT is kept as the vault's settings say. STATE is the vault's state
directory; a new vault is made where there is none.

`

func newFlags(o *options, level *string, opts *[]string) *pflag.FlagSet {
	f := pflag.NewFlagSet("stasis-mount", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SortFlags = false
	f.StringVar(&o.state, "state", "", "the vault's state `DIR` (default $XDG_DATA_HOME/stasis/<mountpoint>)")
	f.BoolVar(&o.foreground, "foreground", false, "stay in the foreground, log to stderr")
	f.BoolVar(&o.readOnly, "read-only", false, "allow no changes")
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users in, as file modes allow")
	f.BoolVar(&o.takeOver, "take-over", false, "use the nodes even if another copy of this state directory used them since")
	f.StringVar(level, "log-level", "info", "`LEVEL`: error, warning, info or debug")
	f.StringVar(&o.logFile, "log-file", "", "log to `FILE` (default STATE/stasis.log)")
	f.StringArrayVarP(opts, "options", "o", nil, "mount `OPTS`, as mount(8) gives them")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	return f
}

// parseArgs reads the command line, in our form or in mount(8)'s: SOURCE MOUNTPOINT -o OPTS.
func parseArgs(args []string) (*options, error) {
	o := &options{}
	var level string
	var opts []string
	f := newFlags(o, &level, &opts)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			o.help = true
			return o, nil
		}
		return nil, usageError{err}
	}
	if o.help || o.version {
		return o, nil
	}
	var err error
	if o.logLevel, err = logrus.ParseLevel(level); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q is none of error, warning, info, debug", level)}
	}
	source := ""
	switch rest := f.Args(); len(rest) {
	case 0:
		return nil, usageError{errors.New("say where to mount: stasis-mount MOUNTPOINT")}
	case 1:
		o.mountpoint = rest[0]
	case 2:
		source, o.mountpoint = rest[0], rest[1]
	default:
		return nil, usageError{fmt.Errorf("%d arguments are too many; at most STATE and MOUNTPOINT", len(rest))}
	}
	if strings.HasPrefix(o.mountpoint, "/dev/fd/") {
		return nil, usageError{errors.New("the mount option \"drop_privileges\" is not for stasis-mount; setuid=USER mounts as that user")}
	}
	fromOpts := ""
	for _, list := range opts {
		for _, opt := range splitOptions(list) {
			if err := o.mountOption(opt, &fromOpts); err != nil {
				return nil, err
			}
		}
	}
	return o, o.chooseState(source, fromOpts)
}

// placeholders are the sources that an fstab line without one has.
var placeholders = map[string]bool{"": true, "none": true, "stasis": true, "stasis-mount": true}

// chooseState takes the state directory from wherever it was given, once.
func (o *options) chooseState(source, fromOpts string) error {
	given := []string{}
	if !placeholders[source] {
		given = append(given, source)
	}
	for _, s := range []string{fromOpts, o.state} {
		if s != "" && (len(given) == 0 || given[0] != s) {
			given = append(given, s)
		}
	}
	switch len(given) {
	case 0:
		return nil
	case 1:
		o.state = given[0]
		return nil
	}
	return usageError{fmt.Errorf("the state directory is given as %s and as %s; give it once", given[0], given[1])}
}

// splitOptions splits at commas; a backslash takes the next byte as it is.
func splitOptions(list string) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			b.WriteByte(list[i])
		case list[i] == ',':
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(list[i])
		}
	}
	return append(out, b.String())
}

func (o *options) mountOption(opt string, state *string) error {
	name, value, hasValue := strings.Cut(opt, "=")
	switch {
	case opt == "" || strings.HasPrefix(name, "x-"):
		return nil
	case name == "state" && value != "":
		*state = value
		return nil
	case name == "state":
		return usageError{errors.New("-o state= needs a directory")}
	case hasValue:
		return unknownOption(name)
	}
	switch name {
	case "ro":
		o.readOnly = true
	case "rw":
		o.readOnly = false
	case "allow_other":
		o.allowOther = true
	case "dev", "nodev":
		o.flags.dev = name == "dev"
	case "suid", "nosuid":
		o.flags.suid = name == "suid"
	case "exec", "noexec":
		o.flags.noexec = name == "noexec"
	case "atime", "noatime":
		o.flags.noatime = name == "noatime"
	case "default_permissions":
		o.flags.check = true
	case "_netdev", "user", "nofail", "noauto":
		// For mount(8) and what starts it.
	case "remount":
		return usageError{errors.New("a vault that is mounted keeps its options; unmount it, then mount it with others")}
	default:
		return unknownOption(name)
	}
	return nil
}

// withhold takes away the options that are root's to give, and names them. mount.fuse3 adds
// them unasked where a line of fstab says setuid=USER, so they are no slip.
func (o *options) withhold() string {
	if os.Geteuid() == 0 {
		return ""
	}
	var names []string
	for _, f := range []struct {
		name string
		on   *bool
	}{{"dev", &o.flags.dev}, {"suid", &o.flags.suid}} {
		if *f.on {
			names = append(names, f.name)
			*f.on = false
		}
	}
	return strings.Join(names, " and ")
}

func unknownOption(name string) error {
	return usageError{fmt.Errorf("the mount option %q is not known; known are state=, ro, rw, allow_other, default_permissions, [no]dev, [no]suid, [no]exec, [no]atime", name)}
}
