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
	if order := os.Getenv(crowdVariable); order != "" {
		if err := beCrowd(order); err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	harness.Main(m)
}
