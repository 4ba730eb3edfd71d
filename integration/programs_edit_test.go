package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"stasis/integration/harness"
)

// editSaves is how often each way of saving saves.
const editSaves = 5

// editor is a way to save a text.
type editor struct {
	name    string
	save    func(i int) []string
	inPlace bool // the file stays the one that it was
	backup  bool // the text before is kept beside it
}

var editors = []editor{
	{name: "vim-rename", save: vimSave("set backupcopy=no writebackup")},
	{name: "vim-in-place", save: vimSave("set backupcopy=yes writebackup"), inPlace: true},
	{name: "vim-no-backup", save: vimSave("set nobackup nowritebackup"), inPlace: true},
	{name: "vim-backup", save: vimSave("set backup backupcopy=no backupdir=. backupext=.old"), backup: true},
	{name: "sed", save: sedSave("sed -i '%s' text")},
	{name: "sed-backup", save: sedSave("sed -i.old '%s' text"), backup: true},
	{name: "shell", save: sedSave("sed '%s' text > .new && cat .new > text && rm .new"), inPlace: true},
}

// savedText is the text of a save.
func savedText(i int) string { return strings.Repeat(fmt.Sprintf("a line of save %d\n", i), 2000) }

// substitution makes the text of a save of the one before.
func substitution(i int) string { return fmt.Sprintf("s/save %d$/save %d/", i-1, i) }

func sedSave(format string) func(int) []string {
	return func(i int) []string { return []string{"sh", "-c", fmt.Sprintf(format, substitution(i))} }
}

// vimSave is a save by vim with settings. It makes no backups below /tmp unless told.
func vimSave(settings string) func(int) []string {
	return func(i int) []string {
		return []string{"vim.tiny", "-u", "NONE", "-i", "NONE", "-e", "-s", "-c", "set backupskip=", "-c", settings,
			"-c", "%" + substitution(i), "-c", "w", "-c", "q", "text"}
	}
}

// Editors save beside and rename over, or in place, with a backup or without. After each
// save the text is the new one, with its mode, and nothing is left beside it.
func TestEditors(t *testing.T) {
	v := twoNodes(t)
	for _, e := range editors {
		t.Run(e.name, func(t *testing.T) {
			dir := harness.Mkdir(t, v.Path(e.name))
			file := harness.Write(t, savedText(0), dir, "text")
			if err := os.Chmod(file, 0o640); err != nil {
				t.Fatal(err)
			}
			before := inode(t, file)
			for i := 1; i <= editSaves; i++ {
				in(t, dir, e.save(i)...)
				if got := harness.Read(t, file); got != savedText(i) {
					t.Fatalf("after save %d it reads %d bytes: %.60q...", i, len(got), got)
				}
			}
			if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("the mode is %v (%v), want 0640", st.Mode(), err)
			}
			if same := inode(t, file) == before; same != e.inPlace {
				t.Errorf("it is the same file: %v, want %v", same, e.inPlace)
			}
			want := []string{"text"}
			if e.backup {
				want = append(want, "text.old")
				if got := harness.Read(t, dir, "text.old"); got != savedText(editSaves-1) {
					t.Errorf("the backup reads %.60q...", got)
				}
			}
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("there are %q, want %q", got, want)
			}
		})
	}
	checked(t, v)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Ino
}
