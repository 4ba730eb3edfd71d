package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"stasis/cmd/internal/build"
	"stasis/cmd/internal/terminal"
)

// The exit codes that scripts rely on.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitDegraded = 3 // or a timeout
	exitAtRisk   = 4 // or what can't be reached as things are
)

// exit is an outcome with its code. An empty text prints nothing.
type exit struct {
	code int
	text string
}

func (e exit) Error() string { return e.text }

// usageError is the person's slip on the command line.
type usageError struct{ error }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var slip usageError
	var e exit
	switch {
	case errors.As(err, &e):
		complain(e.text)
		return e.code
	case errors.As(err, &slip):
		complain(err.Error())
		return exitUsage
	case ctx.Err() != nil:
		complain("interrupted")
		return exitFailed
	}
	complain(err.Error())
	return exitFailed
}

func complain(text string) {
	if text != "" {
		fmt.Fprintln(os.Stderr, "stasis: "+terminal.Lines(text))
	}
}

const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}Usage: {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{if .HasAvailableSubCommands}}
{{range .Commands}}{{if .IsAvailableCommand}}  {{rpad .Name .NamePadding}} {{.Short}}
{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}{{if .HasAvailableSubCommands}}
{{.CommandPath}} COMMAND --help says more.
{{end}}`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "stasis",
		Short: "Says what is safe in your vaults, and where.",
		Long: `Says what is safe in your vaults, and where.

A vault is mounted with stasis-mount. VAULT below is any path inside a mounted
vault, or a vault's state directory; left out, it is the vault of the working
directory, or the only one there is. A peer, which keeps crates for the vaults of
other machines, runs as stasis-peer; it is named by its state directory.`,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       arguments(0, 0),
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if !cmd.HasParent() && strings.HasSuffix(err.Error(), " in -o") {
			return usageError{errMountType}
		}
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.SetOut(os.Stdout)
	root.AddCommand(statusCommand(), listCommand(), findCommand(), whyCommand(), waitCommand(), checkCommand(), umountCommand(),
		nodeCommand(), policyCommand(), peerCommand(), pauseCommand(), resumeCommand(), keyCommand(), backupCommand(), restoreCommand(), completionCommand(), versionCommand())
	return root
}

// arguments wants between least and most arguments; a negative most is no bound.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case cmd.HasSubCommands() && len(args) > 0:
			return usageError{unknownCommand(cmd, args[0])}
		case len(args) < least:
			return usageError{fmt.Errorf("too few arguments; usage: %s", cmd.UseLine())}
		case most >= 0 && len(args) > most:
			return usageError{fmt.Errorf("too many arguments; usage: %s", cmd.UseLine())}
		}
		return nil
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean %s?", cmd.CommandPath()+" "+name, strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no command %q; see `%s --help`", cmd.CommandPath()+" "+name, cmd.CommandPath())
}

// errMountType answers mount(8), which takes this program for the one that mounts where it
// is given the type that a mounted vault has.
var errMountType = errors.New("to mount a vault or to change its options, mount(8) and /etc/fstab want the type fuse.stasis-mount; " +
	"what is mounted keeps its options until it is unmounted")

// group is a command that has only subcommands.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: arguments(0, 0), SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what to do; see `%s --help`", cmd.CommandPath())}
		}}
	cmd.AddCommand(sub...)
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), build.String("stasis"))
			return err
		}}
}

func completionCommand() *cobra.Command {
	return &cobra.Command{Use: "completion bash|zsh|fish", Short: "print a script that completes this command in a shell", Args: arguments(1, 1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return usageError{fmt.Errorf("%q is none of bash, zsh, fish", args[0])}
		}}
}
