package integration

import (
	"fmt"
	"testing"
	"time"

	"stasis/integration/harness"
)

// fioLimit bounds one run of fio.
const fioLimit = 20 * time.Minute

// fioWays are the ways into the kernel, in order and at random.
var fioWays = [][]string{
	{"--name=buffered", "--ioengine=psync", "--rw=write", "--bs=128k"},
	{"--name=buffered-random", "--ioengine=psync", "--rw=randwrite", "--bs=4k"},
	// Blocks that begin and end inside of pages, and of units of the body.
	{"--name=buffered-odd", "--ioengine=psync", "--rw=randwrite", "--bs=3000"},
	{"--name=direct", "--ioengine=psync", "--direct=1", "--rw=write", "--bs=1m"},
	{"--name=direct-random", "--ioengine=libaio", "--iodepth=8", "--direct=1", "--rw=randwrite", "--bs=8k"},
	{"--name=mapped", "--ioengine=mmap", "--rw=write", "--bs=64k"},
	{"--name=mapped-random", "--ioengine=mmap", "--rw=randwrite", "--bs=4k"},
}

// fio finds each block that it wrote where it wrote it, with its checksum, four jobs in
// each way at once: in new files, over files that are in crates, and from the nodes alone.
func TestFio(t *testing.T) {
	soakProgram(t, "fio")
	v := twoNodes(t)
	run := func(seed int, args ...string) {
		t.Helper()
		args = append([]string{"fio", "--directory=" + v.Point, fmt.Sprintf("--size=%dm", harness.Count(2, 48)), "--numjobs=4",
			"--fallocate=none", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", fmt.Sprintf("--randseed=%d", seed)}, args...)
		for _, way := range fioWays {
			args = append(args, way...)
		}
		if r := harness.Run(t, harness.Command{Dir: v.Base, Args: args, Limit: fioLimit}); r.Code != 0 {
			t.Fatal(r)
		}
	}
	run(1, "--do_verify=1")
	v.Wait(copiesLimit)
	run(2, "--do_verify=1", "--overwrite=1")
	onlyNodes(t, v)
	run(2, "--verify_only")
	checked(t, v)
}
