// Package build says which release a program is.
package build

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the release.
const Version = "0.1.0"

// String is the line that `version` prints for a program.
func String(program string) string {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	return fmt.Sprintf("%s %s%s (%s, %s/%s)", program, Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
