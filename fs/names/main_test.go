package names

import (
	"flag"
	"os"
	"testing"
)

// Rapid runs a handful of cases here and its full count in a soak. It prints the
// seed of a failure; STASIS_SEED replays one.
func TestMain(m *testing.M) {
	flag.Parse()
	set := map[string]string{"rapid.checks": "20"}
	if os.Getenv("STASIS_SOAK") != "" {
		set["rapid.checks"] = "1000"
	}
	if seed := os.Getenv("STASIS_SEED"); seed != "" {
		set["rapid.seed"] = seed
	}
	for name, value := range set {
		given := false
		flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
		if given {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
