package integration

import (
	"fmt"
	"os"
	"testing"

	"stasis/integration/harness"
)

func TestMain(m *testing.M) {
	if lose := os.Getenv(workerVariable); lose != "" {
		os.Exit(serveWorker(lose))
	}
	if dir := os.Getenv(probeVariable); dir != "" {
		os.Exit(probe(dir))
	}
	if dir := os.Getenv(tamperVariable); dir != "" {
		os.Exit(tamper(dir))
	}
	if point := os.Getenv(fakeVariable); point != "" {
		fmt.Fprintln(os.Stderr, beFake(point))
		os.Exit(1)
	}
	harness.Main(m)
}
