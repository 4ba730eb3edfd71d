package main

import (
	"context"
	"errors"

	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// deviceOf is the device of the mount at point; empty if it can't be told.
func deviceOf(point string) string {
	table, err := mounts.Read()
	if err != nil {
		return ""
	}
	m, _ := table.At(point)
	return m.Device
}

// Unmount takes the mount away and waits until it has ended. A copy of the mount in
// another mount namespace keeps it alive for as long as that lives, and nobody here can
// see it: then this daemon ends all the same.
func (s *server) Unmount(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, unmountLimit)
	defer cancel()
	err := s.mount.Unmount(limited)
	switch {
	case err == nil || s.hasEnded():
		return nil
	case errors.Is(err, store.Conflict) || ctx.Err() != nil || s.device == "" || deviceOf(s.point) == s.device:
		return err
	}
	s.log.Warn("the mount lives on in another mount namespace and ends with this daemon")
	select {
	case s.elsewhere <- struct{}{}:
	default: // said before
	}
	return nil
}

func (s *server) hasEnded() bool {
	select {
	case <-s.mount.Done():
		return true
	default:
		return false
	}
}
