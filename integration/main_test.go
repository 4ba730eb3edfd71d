package integration

import (
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
	harness.Main(m)
}
