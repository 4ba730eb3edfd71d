package integration

import (
	"fmt"
	"strings"
	"testing"

	"stasis/integration/harness"
)

// commitScript makes commits from one number to another in the working directory, each
// with a change to a file that grows, a new file, and a file that is rewritten.
const commitScript = `set -e
i=$1
while [ "$i" -le "$2" ]; do
	mkdir -p "dir$((i % 17))"
	echo "line $i" >> grows
	echo "$i" > "dir$((i % 17))/file$i"
	echo "state $i" > changes
	git add -A
	git commit -q -m "commit $i"
	i=$((i + 1))
done`

// A life of a repository in the vault: many commits, clones of both kinds, fetches, a
// second worktree, gc, and everything whole in the end, from the nodes alone too.
func TestGitLife(t *testing.T) {
	v := twoNodes(t)
	commits := harness.Count(20, 1000)
	repo := harness.Mkdir(t, v.Path("repo"))
	commit := func(dir string, from, to int) {
		t.Helper()
		in(t, dir, "sh", "-c", commitScript, "sh", fmt.Sprint(from), fmt.Sprint(to))
	}
	in(t, repo, "git", "init", "-q", "-b", "main")
	commit(repo, 1, commits/2)
	in(t, v.Point, "git", "clone", "-q", repo, "linked") // its objects are hard links
	in(t, v.Point, "git", "clone", "-q", "--no-local", "--bare", repo, "bare")

	in(t, repo, "git", "worktree", "add", "-q", "-b", "side", "../side")
	commit(repo, commits/2+1, commits)
	// Other numbers than on main: commits of the same second that say the same are one.
	commit(v.Path("side"), commits+1, commits+5)
	in(t, repo, "git", "gc", "-q", "--prune=now")
	in(t, repo, "git", "merge", "-q", "-s", "ours", "-m", "merged", "side")
	in(t, v.Path("linked"), "git", "pull", "-q", "--ff-only")
	in(t, v.Path("bare"), "git", "fetch", "-q", "origin", "+refs/heads/*:refs/heads/*")
	in(t, v.Path("linked"), "git", "repack", "-q", "-a", "-d", "-f")
	in(t, v.Path("linked"), "git", "prune-packed")
	in(t, repo, "git", "worktree", "remove", v.Path("side"))

	head := in(t, repo, "git", "rev-parse", "HEAD")
	tree := in(t, repo, "git", "ls-tree", "-r", "HEAD")
	for _, fresh := range []bool{true, false} {
		for _, name := range []string{"repo", "linked", "bare"} {
			dir := v.Path(name)
			in(t, dir, "git", "fsck", "--full", "--strict")
			if got := in(t, dir, "git", "rev-parse", "refs/heads/main"); got != head {
				t.Errorf("main of %s is %s, want %s", name, got, head)
			}
			if got := in(t, dir, "git", "ls-tree", "-r", "main"); got != tree {
				t.Errorf("the tree of %s is\n%s\nwant\n%s", name, got, tree)
			}
			// The first half, the second, five beside, and the merge.
			if got := strings.TrimSpace(in(t, dir, "git", "rev-list", "--count", "main")); got != fmt.Sprint(commits+5+1) {
				t.Errorf("%s has %s commits, want %d", name, got, commits+5+1)
			}
			if name == "bare" {
				continue
			}
			if got := in(t, dir, "git", "status", "--porcelain"); got != "" {
				t.Errorf("git status of %s says %s", name, got)
			}
			if got := strings.Count(harness.Read(t, dir, "grows"), "\n"); got != commits {
				t.Errorf("the file that grows has %d lines in %s, want %d", got, name, commits)
			}
		}
		if fresh {
			onlyNodes(t, v)
		}
	}
	checked(t, v)
}
