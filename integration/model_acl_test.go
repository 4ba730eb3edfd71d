package integration

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// aclOps set access control lists as libacl does; xattr operations read them.
var aclOps = map[string]func(s *side, op modelOp) outcome{
	"setacl": func(s *side, op modelOp) outcome {
		var st unix.Stat_t
		if unix.Lstat(s.path(op.Path), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&unix.S_ISGID != 0 {
			return outcome{text: "set-group-id"} // see makeMode
		}
		return nameOps["setxattr"](s, op)
	},
	"getacl":    nameOps["getxattr"],
	"removeacl": nameOps["removexattr"],
}

// The tags of entries of an access control list, as in linux/posix_acl.h.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// drawACL draws a list that mostly makes sense.
func drawACL(t *rapid.T) rawText {
	value := binary.LittleEndian.AppendUint32(nil, 2)
	entry := func(tag uint16, id uint32) {
		value = binary.LittleEndian.AppendUint16(value, tag)
		value = binary.LittleEndian.AppendUint16(value, draw(t, "permissions", []uint16{7, 6, 5, 4, 0}))
		value = binary.LittleEndian.AppendUint32(value, id)
	}
	const nobody = ^uint32(0)
	shape := draw(t, "list", []string{"minimal", "user", "group", "both", "both", "masked", "no mask", "twice", "cut", "empty", "version"})
	if shape == "empty" {
		return rawText(value)
	}
	entry(aclUserObj, nobody)
	if shape == "user" || shape == "both" || shape == "twice" || shape == "no mask" {
		entry(aclUser, modelUser)
	}
	if shape == "twice" {
		entry(aclUser, modelUser)
	}
	entry(aclGroupObj, nobody)
	if shape == "group" || shape == "both" {
		entry(aclGroup, modelGroup)
	}
	if shape != "minimal" && shape != "no mask" {
		entry(aclMask, nobody)
	}
	entry(aclOther, nobody)
	switch shape {
	case "cut":
		value = value[:len(value)-3]
	case "version":
		value[0] = 3
	}
	return rawText(value)
}
