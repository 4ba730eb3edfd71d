package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/integration/harness"
)

const (
	// pgClients is how many clients write at once, and pgLimit how long PostgreSQL may take to
	// start or stop.
	pgClients = 4
	pgLimit   = time.Minute
	// pgKillAfter is how long clients write until the mount is killed,
	// and pgKills how often.
	pgKillAfter = 5 * time.Second
	pgKills     = 5
)

// A database cluster of PostgreSQL lies in the vault, with checksums on its pages. What it
// told its clients is committed is there after it was stopped and mounted again without
// the bodies, and it is whole by PostgreSQL's own checks.
func TestPostgres(t *testing.T) {
	v, c := newCluster(t)
	done := c.bench(harness.Count(2, 60))
	if !done.finished {
		t.Fatalf("pgbench did not end well: %v", done.result)
	}
	c.holds(done.transactions, done.transactions)
	c.stop()
	onlyNodes(t, v)
	c.run("pg_checksums", "--check", "-D", c.data)
	c.start()
	c.holds(done.transactions, done.transactions)
	c.whole()
	c.stop()
	checked(t, v)
}

// The mount daemon is killed while PostgreSQL writes: once it serves again PostgreSQL has
// all that it told its clients, and is whole.
func TestPostgresKill(t *testing.T) {
	if !harness.Soak() {
		t.Skip("TestSQLite is for this; `make soak` runs it")
	}
	v, c := newCluster(t)
	done := 0
	for range pgKills {
		go func() { // ends before bench does
			time.Sleep(pgKillAfter)
			if pid := v.PID(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // bench sees whether it did
			}
		}()
		more := c.bench(int(2 * pgKillAfter.Seconds()))
		if more.finished {
			t.Fatalf("pgbench did not see that the mount died: %v", more.result)
		}
		c.quit()
		v.Start()
		c.start()
		// Each client may have had one whose answer did not come.
		done = c.holds(done+more.transactions, done+more.transactions+pgClients)
		c.whole()
	}
	c.stop()
	c.run("pg_checksums", "--check", "-D", c.data)
	checked(t, v)
}

// newCluster makes a cluster in a new vault, with pgbench's tables, and starts it.
func newCluster(t *testing.T) (*harness.Vault, *pgCluster) {
	t.Helper()
	harness.NeedRoot(t)
	bin := pgPrograms(t)
	v := forOthers(t)
	c := &pgCluster{t: t, bin: bin, data: ownedByNobody(t, v.Path("data"))}
	t.Cleanup(c.quit)
	c.run("initdb", "--data-checksums", "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "--no-instructions", "-D", c.data)
	c.start()
	c.run("pgbench", c.at("-i", "-q", "-s", fmt.Sprint(harness.Count(1, 10)))...)
	return v, c
}

// pgPrograms is where PostgreSQL's own programs are: Debian keeps those of each version
// apart, outside of PATH.
func pgPrograms(t *testing.T) string {
	t.Helper()
	if all, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); err == nil && len(all) > 0 {
		return filepath.Dir(slices.Max(all))
	}
	soakProgram(t, "initdb")
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// pgCluster is a cluster and, while it runs, its server.
type pgCluster struct {
	t      *testing.T
	bin    string
	data   string // its directory, where its socket lies too
	server *exec.Cmd
	ended  chan error
}

// at adds to arguments of a client where the server is.
func (c *pgCluster) at(args ...string) []string {
	return append([]string{"-h", c.data, "-U", "test", "-d", "postgres"}, args...)
}

func (c *pgCluster) command(program string, args ...string) []string {
	return append(append(append([]string{}, byNobody...), filepath.Join(c.bin, program)), args...)
}

// run runs one of PostgreSQL's programs, which has to succeed.
func (c *pgCluster) run(program string, args ...string) string {
	c.t.Helper()
	return in(c.t, "/", c.command(program, args...)...)
}

func (c *pgCluster) query(sql string) string {
	c.t.Helper()
	return strings.TrimSpace(c.run("psql", c.at("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql)...))
}

// start runs a server that listens on a socket in the vault only, and waits until it
// serves.
func (c *pgCluster) start() {
	c.t.Helper()
	log, err := os.Create(filepath.Join(harness.Dir(c.t), "server.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	args := c.command("postgres", "-D", c.data, "-k", c.data, "-c", "listen_addresses=")
	c.server = exec.Command(args[0], args[1:]...)
	c.server.Env = append(os.Environ(), programEnv...)
	c.server.Stdout, c.server.Stderr = log, log
	if err := c.server.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	c.ended = ended
	go func(server *exec.Cmd) { ended <- server.Wait() }(c.server)
	harness.Eventually(c.t, pgLimit, "the start of PostgreSQL", func() (bool, string) {
		args := c.command("pg_isready", "-q", "-h", c.data)
		return exec.Command(args[0], args[1:]...).Run() == nil, harness.Read(c.t, log.Name())
	})
}

// stop ends the server with a checkpoint.
func (c *pgCluster) stop() {
	c.t.Helper()
	if err := c.end(syscall.SIGINT); err != nil {
		c.t.Fatalf("stop PostgreSQL: %v", err)
	}
}

// quit ends the server, if it runs, as it is.
func (c *pgCluster) quit() {
	if c.server != nil {
		_ = c.end(syscall.SIGQUIT) // it says that it was not asked nicely
	}
}

func (c *pgCluster) end(signal syscall.Signal) error {
	// It may have ended by itself, which Wait says.
	_ = c.server.Process.Signal(signal)
	defer func() { c.server = nil }()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(pgLimit):
		_ = c.server.Process.Kill()
		return fmt.Errorf("it runs %s after %v", pgLimit, signal)
	}
}

// pgDone is what a run of pgbench came to.
type pgDone struct {
	transactions int  // that it was told are committed
	finished     bool // no client was cut off
	result       harness.Result
}

var pgProcessed = regexp.MustCompile(`number of transactions actually processed: (\d+)`)

// bench runs pgbench's mix of reads and writes for so many seconds.
func (c *pgCluster) bench(seconds int) pgDone {
	c.t.Helper()
	r := harness.Run(c.t, harness.Command{Dir: "/", Env: programEnv, Limit: time.Duration(seconds)*time.Second + pgLimit,
		Args: c.command("pgbench", c.at("-n", "-c", fmt.Sprint(pgClients), "-j", "2", "-T", fmt.Sprint(seconds))...)})
	m := pgProcessed.FindStringSubmatch(r.Stdout)
	if m == nil {
		c.t.Fatalf("pgbench does not say how much it did: %v", r)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 {
		c.t.Fatalf("pgbench did nothing: %v", r)
	}
	c.t.Logf("%d transactions", n)
	return pgDone{n, r.Code == 0, r}
}

// holds checks that the history has from least to most transactions, and that every
// balance is the sum of what they moved. It gives the number.
func (c *pgCluster) holds(least, most int) int {
	c.t.Helper()
	n, err := strconv.Atoi(c.query("select count(*) from pgbench_history"))
	if err != nil || n < least || n > most {
		c.t.Errorf("the history has %d transactions (%v), want %d to %d", n, err, least, most)
	}
	for _, sum := range []string{
		"select sum(abalance) from pgbench_accounts", "select sum(tbalance) from pgbench_tellers", "select sum(bbalance) from pgbench_branches",
	} {
		if got, want := c.query(sum), c.query("select sum(delta) from pgbench_history"); got != want {
			c.t.Errorf("%s: %s, want %s", sum, got, want)
		}
	}
	return n
}

// whole has PostgreSQL verify every table against its indexes.
func (c *pgCluster) whole() {
	c.t.Helper()
	c.run("pg_amcheck", "-h", c.data, "-U", "test", "--all", "--install-missing", "--heapallindexed", "--parent-check")
}
