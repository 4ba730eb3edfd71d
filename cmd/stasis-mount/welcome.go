package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"stasis/cmd/internal/api"
	"stasis/cmd/internal/mounts"
)

// welcome is what the person reads once the mount serves.
func (s *server) welcome(ctx context.Context) string {
	text := s.point + " is ready."
	if s.withheld != "" {
		text += fmt.Sprintf(" Mounted without %s: only root may let these count.", s.withheld)
	}
	status, err := s.vault.Status(ctx)
	if err != nil {
		s.log.WithError(err).Error("look at the status")
		return text
	}
	switch {
	case s.vault.Fresh() && len(status.Nodes) == 1 && status.Copies == 1:
		text += fmt.Sprintf(" 1 copy, on this disk only. Add a second place:\n  stasis node add %s usb directory /media/usb/stasis", short(s.point))
	case status.State == api.StateDegraded || status.State == api.StateAtRisk:
		text += " " + status.Reason
	}
	return text
}

// short writes a path below the person's home as they would.
func short(path string) string {
	home := strings.TrimRight(os.Getenv("HOME"), "/")
	if home == "" || !mounts.Within(path, home) || strings.ContainsAny(path, " \t'\"\\$&;()<>|*?[]!") {
		return path
	}
	return "~" + strings.TrimPrefix(path, home)
}
