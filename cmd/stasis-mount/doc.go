// Stasis-mount mounts a vault: it opens the state directory, serves the mount and
// the control socket in the background, and ends when the mount does.
package main
