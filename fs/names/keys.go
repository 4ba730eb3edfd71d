package names

import "encoding/binary"

// The tables of this package in the shared space: the first byte of each key.
const (
	tableInode   = 'i'
	tableDentry  = 'd'
	tableCookie  = 'c'
	tableXattr   = 'x'
	tableOrphan  = 'o'
	tablePolicy  = 'p'
	tableCounter = 's'
)

var (
	keyUsage   = []byte{tableCounter, 'u'} // usage
	keyInos    = []byte{tableCounter, 'i'} // high-water mark of inode numbers
	keyCookies = []byte{tableCounter, 'c'} // of cookies
	keyLists   = []byte{tableCounter, 'l'} // of list ids
	keyACLs    = []byte{tableCounter, 'a'} // there: an access control list was set once
)

func numberKey(table byte, n uint64, room int) []byte {
	k := make([]byte, 9, 9+room)
	k[0] = table
	binary.BigEndian.PutUint64(k[1:], n)
	return k
}

func inodeKey(ino Ino) []byte  { return numberKey(tableInode, uint64(ino), 0) }
func orphanKey(ino Ino) []byte { return numberKey(tableOrphan, uint64(ino), 0) }
func policyKey(ino Ino) []byte { return numberKey(tablePolicy, uint64(ino), 0) }

func dentryKey(dir Ino, name string) []byte {
	return append(numberKey(tableDentry, uint64(dir), len(name)), name...)
}

func cookieKey(dir Ino, cookie uint64) []byte {
	return binary.BigEndian.AppendUint64(numberKey(tableCookie, uint64(dir), 8), cookie)
}

func xattrKey(ino Ino, name string) []byte {
	return append(numberKey(tableXattr, uint64(ino), len(name)), name...)
}

// after is the first key past every key that belongs to number n of a table.
func after(table byte, n uint64) []byte {
	if n == 1<<64-1 {
		return []byte{table + 1}
	}
	return numberKey(table, n+1, 0)
}
