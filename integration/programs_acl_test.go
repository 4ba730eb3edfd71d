package integration

import (
	"testing"

	"stasis/integration/harness"
)

// aclScript has the tools of ACLs work on a tree, then shows it. It says what somebody
// whom an ACL lets in, or shuts out, may do.
const aclScript = `set -e
umask 027
echo text > file
chmod 600 file
setfacl -m u:65534:r-- file
setpriv --reuid=65534 --regid=65534 --clear-groups cat file
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo more >> file' 2>/dev/null || echo no writing
setpriv --reuid=65533 --regid=65533 --clear-groups cat file 2>/dev/null || echo no reading
chmod g-r file # takes the mask down
setpriv --reuid=65534 --regid=65534 --clear-groups cat file 2>/dev/null || echo no reading any more
mkdir shared
setfacl -d -m u:65534:rwx,g:65533:r-x,o::--- shared
setfacl -m u:65534:rwx shared
mkdir shared/sub
echo inherits > shared/inherits
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo theirs > shared/sub/theirs && cat shared/inherits'
install -m 640 file shared/installed
cp -p file copied
mv shared/inherits moved
ln file linked
cp -a shared again
setfacl -b linked
setfacl -k again
setfacl -x u:65534 again/installed
find . -print0 | LC_ALL=C sort -z | xargs -0 getfacl -P -n -p --
find . -printf '%p %M %U:%G\n' | LC_ALL=C sort
`

// ACLs are kept, inherited and obeyed as on the disk beside, and are the same once they
// come from the ledger.
func TestACLs(t *testing.T) {
	harness.NeedRoot(t)
	v := forOthers(t)
	want := in(t, harness.Dir(t), "sh", "-c", aclScript)
	if got := in(t, harness.Mkdir(t, v.Path("tree")), "sh", "-c", aclScript); got != want {
		t.Errorf("in the vault:\n%s\non the disk:\n%s", got, want)
	}
	const show = `xargs -0 getfacl -P -n -p --`
	before := inOrder(t, v.Path("tree"), show)
	v.Kill()
	v.Start()
	if after := inOrder(t, v.Path("tree"), show); after != before {
		t.Errorf("after a kill:\n%s\nbefore:\n%s", after, before)
	}
	checked(t, v)
}
