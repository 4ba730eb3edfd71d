package integration

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"stasis/integration/harness"
)

// sqliteProcesses is how many processes write to one database at once.
const sqliteProcesses = 8

// Eight processes write to one database at once, in each way that sqlite keeps its
// journal: each transaction that one was told is done counts, once, and the database is
// whole, from the nodes alone too.
func TestSQLiteCrowd(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			v := twoNodes(t)
			each := harness.Count(8, 300)
			db := v.Path("crowd.db")
			in(t, v.Point, "sqlite3", db, "pragma journal_mode="+mode+`;
				create table sum(n integer); insert into sum values(0);
				create table done(process integer, i integer, fill blob, primary key(process, i)); create index filled on done(fill);`)
			ctx, cancel := context.WithTimeout(t.Context(), programLimit)
			defer cancel()
			var all sync.WaitGroup
			for p := range sqliteProcesses {
				all.Go(func() {
					cmd := exec.CommandContext(ctx, "sqlite3", "-bail", db)
					cmd.Stdin = strings.NewReader(crowdScript(p, each))
					out, err := cmd.CombinedOutput()
					if n := strings.Count(string(out), "done\n"); err != nil || n != each {
						t.Errorf("process %d did %d transactions of %d: %v\n%s", p, n, each, err, out[max(0, len(out)-1000):])
					}
				})
			}
			all.Wait()
			whole := func() {
				t.Helper()
				if got := in(t, v.Point, "sqlite3", db, "pragma integrity_check;"); got != "ok\n" {
					t.Errorf("integrity_check says %s", got)
				}
				want := strconv.Itoa(sqliteProcesses * each)
				got := in(t, v.Point, "sqlite3", db, "select n from sum; select count(*) from done; select count(*) from done indexed by filled where fill is not null;")
				if got != strings.Repeat(want+"\n", 3) {
					t.Errorf("%s transactions were done, and the database has %q", want, strings.Fields(got))
				}
			}
			whole()
			onlyNodes(t, v)
			whole()
			checked(t, v)
		})
	}
}

// crowdScript is what one process does: transactions that read what the others wrote, and
// a word after each. They wait for one another.
func crowdScript(process, transactions int) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".timeout %d\npragma synchronous=full;\n", programLimit.Milliseconds())
	for i := range transactions {
		fmt.Fprintf(&b, "begin immediate; update sum set n=n+1; insert into done values(%d, %d, randomblob(900)); commit;\n.print done\n", process, i)
	}
	return b.String()
}
