package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// readmeInvite is an invite as the README shows it, cut short.
var readmeInvite = regexp.MustCompile(`stasis-invite-1-[a-z2-7]+(\.\.\.)?`)

// blocks gives the console blocks of a section of the README: of each its commands.
func blocks(t *testing.T, section string) (all [][]string) {
	t.Helper()
	text := harness.Read(t, "..", "README.md")
	_, text, found := strings.Cut(text, "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for {
		_, rest, more := strings.Cut(text, "```console\n")
		if !more {
			return all
		}
		block, after, _ := strings.Cut(rest, "```")
		var commands []string
		for line := range strings.Lines(block) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				command, _, _ = strings.Cut(command, " #")
				commands = append(commands, strings.TrimSpace(command))
			}
		}
		all, text = append(all, commands), after
	}
}

// What the README says about another machine works as it is printed there, by two
// persons with nothing but their homes.
func TestPeerAsTheReadmeSays(t *testing.T) {
	all := blocks(t, "Another machine")
	if len(all) != 2 {
		t.Fatalf("the section has %d blocks of commands, want one for the other machine and one for this", len(all))
	}
	here, there := harness.NewNet(t), harness.NewNet(t)
	link := harness.NewLink(t, here, there)
	v := harness.NewVault(t)
	v.Net = here
	path := "PATH=" + filepath.Dir(harness.Binary(t, "stasis")) + ":" + os.Getenv("PATH")
	base := harness.Dir(t)
	home := func(name string) []string {
		return append(append([]string{}, v.Env...), path, "HOME="+harness.Mkdir(t, base, name))
	}
	basement, desk := home("basement"), home("desk")
	shell := func(n *harness.Net, env []string, command string) string {
		t.Helper()
		r := harness.Run(t, n.Enter(harness.Command{Args: []string{"sh", "-c", command}, Env: env}))
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}

	var invite string
	for _, command := range all[0] {
		command = strings.ReplaceAll(command, "basement.lan", link.Far)
		if daemon, background := strings.CutSuffix(command, "&"); background {
			harness.Background(t, there.Enter(harness.Command{Args: append([]string{"env"}, strings.Fields(daemon)...), Env: basement}))
			harness.Eventually(t, 20*time.Second, "a peer that answers", func() (bool, string) {
				r := harness.Run(t, there.Enter(harness.Command{Args: []string{"sh", "-c", "stasis peer list"}, Env: basement}))
				return r.Code == 0, r.Stderr
			})
			continue
		}
		if found := readmeInvite.FindString(shell(there, basement, command)); found != "" {
			invite = found
		}
	}
	if invite == "" {
		t.Fatal("the other machine printed no invite")
	}
	v.Point = harness.Mkdir(t, base, "desk", "vault")
	shell(here, desk, "stasis-mount ~/vault")
	harness.Write(t, "a thesis\n", v.Point, "thesis")
	for _, command := range all[1] {
		t.Log(shell(here, desk, readmeInvite.ReplaceAllString(command, invite)))
	}
	if got := v.Copies("thesis"); got != 2 {
		t.Errorf("%d copies after all that the README says, want 2", got)
	}
	shell(here, desk, "stasis umount ~/vault")
	v.AwaitEnd()
}
