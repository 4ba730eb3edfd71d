package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	smallNode = 64 << 20
	// settleLimit is how long figures may take to be what they were.
	settleLimit = 20 * time.Second
	// placeLimit is how long content that found no place may wait once there is one.
	placeLimit = time.Minute
)

// space is what a node says is free and reserved.
type space struct{ free, reserved int64 }

func spaceOf(t *testing.T, v *harness.Vault, node string) space {
	t.Helper()
	n := v.Status().Node(t, node)
	return space{n.Free, n.Reserved}
}

func eventuallySpace(t *testing.T, v *harness.Vault, node string, want space) {
	t.Helper()
	harness.Eventually(t, settleLimit, "space on node "+node+" as before the failed write", func() (bool, string) {
		got := spaceOf(t, v, node)
		return got == want, fmt.Sprintf("%+v, want %+v", got, want)
	})
}

// A file that no node has room for is refused to the program that writes it, kept and
// readable all the same, and placed unasked as soon as there is a place. The refusal
// leaves no space taken.
func TestFileLargerThanEveryNode(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings("copies = 1\n[[node]]\nname = \"small\"\nkind = \"directory\"\npath = %q\ncapacity = \"64MiB\"\n", filepath.Join(v.Base, "small"))
	v.Start()
	harness.Write(t, "something small first\n", v.Point, "first")
	v.Wait(time.Minute)
	before := spaceOf(t, v, "small")

	number, size := harness.Seed(t), int64(100<<20)
	for _, sync := range []bool{false, true} {
		name := fmt.Sprintf("synced-%v", sync)
		if err := harness.WriteFile(v.Path(name), number, size, sync); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("writing 100 MiB where 64 are gives %v, want ENOSPC", err)
		}
		harness.HasContent(t, v.Path(name), number, size)
		if got := v.Xattr("state", name); got != "unplaced" {
			t.Errorf("its state is %q, want unplaced", got)
		}
		if got := v.Xattr("copies", name); got != "0" {
			t.Errorf("it says it has %q copies, want 0", got)
		}
		eventuallySpace(t, v, "small", before)
	}
	sentence, _, _ := strings.Cut(v.OK("why", v.Path("synced-true")), "\n")
	if !strings.HasSuffix(sentence, ".") || !strings.Contains(sentence, "small") || !strings.Contains(sentence, "space") {
		t.Errorf("`why` says %q, want a sentence about the space on node small", sentence)
	}
	if found := v.OK("find", v.Point, "--state", "unplaced"); found != v.Path("synced-false")+"\n"+v.Path("synced-true")+"\n" {
		t.Errorf("find --state unplaced says %q", found)
	}
	if s := v.Status(); s.Unplaced.Files != 2 || s.Unplaced.Bytes != 2*size || s.State != "at risk" {
		t.Errorf("the status says %+v", s)
	}
	if r := v.Stasis("status", v.Point, "--exit-code"); r.Code != 4 {
		t.Errorf("an only copy is at risk, want 4\n%v", r)
	}
	if r := v.Stasis("wait", v.Point); r.Code != 4 || r.Took > 10*time.Second {
		t.Errorf("a wait for what can't be should say so at once, with 4\n%v", r)
	}
	v.OK("check", v.Point, "--read")

	// What is unplaced lives through an unmount and through kill -9.
	v.Unmount()
	v.Start()
	harness.HasContent(t, v.Path("synced-true"), number, size)
	v.Kill()
	v.Start()
	harness.HasContent(t, v.Path("synced-true"), number, size)

	v.OK("node", "add", v.Point, "big", "directory", filepath.Join(v.Base, "big"))
	for _, name := range []string{"synced-true", "synced-false"} {
		harness.Eventually(t, placeLimit, "the placing of "+name, func() (bool, string) {
			state := v.Xattr("state", name)
			return state == "durable" && v.Xattr("nodes", name) == "big", state + " on " + v.Xattr("nodes", name)
		})
		harness.HasContent(t, v.Path(name), number, size)
	}
	v.OK("check", v.Point, "--read")
	eventuallySpace(t, v, "small", before)
	v.Unmount()
}

// Many files fill a node to the brim: each is either placed or refused, nothing in
// between, and what is deleted makes room for what was refused.
func TestFillingANodeWithFiles(t *testing.T) {
	for name, path := range map[string]func(v *harness.Vault) string{
		"by its capacity": func(v *harness.Vault) string {
			return fmt.Sprintf("%q\ncapacity = \"64MiB\"", filepath.Join(v.Base, "small"))
		},
		"by its disk": func(v *harness.Vault) string {
			return fmt.Sprintf("%q", filepath.Join(harness.NewDisk(t, "tmpfs", smallNode).Point, "small"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := harness.NewVault(t)
			v.Settings("copies = 1\n[[node]]\nname = \"small\"\nkind = \"directory\"\npath = %s\n", path(v))
			v.Start()
			placed, refused := 0, []string{}
			const size = 3 << 20
			for i := range 30 {
				file := fmt.Sprintf("file-%d", i)
				err := harness.WriteFile(v.Path(file), uint64(i), size, false)
				switch {
				case err == nil:
					placed++
				case errors.Is(err, syscall.ENOSPC):
					refused = append(refused, file)
				default:
					t.Fatal(err)
				}
			}
			if placed < 15 || placed > 21 || len(refused) == 0 {
				t.Fatalf("%d files of 3 MiB placed on 64 MiB, %d refused", placed, len(refused))
			}
			for i := range 30 {
				harness.HasContent(t, v.Path(fmt.Sprintf("file-%d", i)), uint64(i), size)
			}
			for i := range placed / 2 {
				if err := os.Remove(v.Path(fmt.Sprintf("file-%d", i))); err != nil {
					t.Fatal(err)
				}
			}
			harness.Eventually(t, placeLimit, "the placing of "+refused[0], func() (bool, string) {
				state := v.Xattr("state", refused[0])
				return state == "durable", state
			})
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}

// A refusal for space takes nothing, on a node of each kind, and with a second node that
// had room: either all is reserved or nothing is.
func TestRefusedWritesGiveSpaceBack(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings(`copies = 2
least = 2
[[node]]
name = "roomy"
kind = "directory"
path = %q
capacity = "1GiB"
[[node]]
name = "box"
kind = "container"
path = %q
capacity = "32MiB"
`, filepath.Join(v.Base, "roomy"), filepath.Join(v.Base, "box"))
	v.Start()
	harness.Write(t, "first\n", v.Point, "first")
	v.Wait(time.Minute)
	if got := v.Copies("first"); got != 2 {
		t.Fatalf("%d copies", got)
	}
	roomy, box := spaceOf(t, v, "roomy"), spaceOf(t, v, "box")
	for i := range 5 {
		if err := harness.WriteFile(v.Path("large"), uint64(i), 48<<20, i%2 == 0); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("write %d: %v, want ENOSPC: two places are the least and one has no room", i, err)
		}
	}
	eventuallySpace(t, v, "roomy", roomy)
	eventuallySpace(t, v, "box", box)
	harness.HasContent(t, v.Path("large"), 4, 48<<20)
	v.OK("policy", "set", v.Point, "--least", "1")
	harness.Eventually(t, placeLimit, "one place being enough", func() (bool, string) {
		state := v.Xattr("state", "large")
		return state == "short" && v.Copies("large") == 1, state
	})
	if err := os.Remove(v.Path("large")); err != nil {
		t.Fatal(err)
	}
	eventuallySpace(t, v, "roomy", roomy)
	eventuallySpace(t, v, "box", box)
	v.Unmount()
}

// A disk that is full is not a disk that is lost: the node says full, other nodes take
// what they can, and room on it is used without being asked.
func TestNodeOnAFullDisk(t *testing.T) {
	disk := harness.NewDisk(t, "ext4", 96<<20)
	v := harness.NewVault(t)
	v.Directories(2, filepath.Join(v.Base, "roomy"), filepath.Join(disk.Point, "cramped"))
	v.Start()
	harness.Write(t, "first\n", v.Point, "first")
	v.Wait(time.Minute)
	filler := filepath.Join(disk.Point, "filler")
	fill(t, filler)
	if err := harness.WriteFile(v.Path("large"), 1, 8<<20, true); err != nil {
		t.Fatalf("one place of two has room, which is the least: %v", err)
	}
	harness.Eventually(t, returnLimit, "one copy of what has room for one", func() (bool, string) {
		return v.Xattr("copies", "large") == "1", v.Xattr("state", "large") + " " + v.Xattr("copies", "large")
	})
	if r := v.Stasis("status", v.Point, "--exit-code"); r.Code != 3 {
		t.Errorf("a copy is lacking, want 3\n%v", r)
	}
	if got := v.Status().Node(t, "b").State; got == "missing" || got == "unreachable" {
		t.Errorf("the node on the full disk is %s", got)
	}
	harness.HasContent(t, v.Path("large"), 1, 8<<20)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, placeLimit, "the second copy", func() (bool, string) {
		return v.Xattr("copies", "large") == "2", v.Xattr("state", "large") + " " + v.OK("status", v.Point)
	})
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
