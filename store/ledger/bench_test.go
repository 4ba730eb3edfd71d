package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
)

// The figures that the filesystem lives on: small updates without a sync, one
// by one and from many at once, and syncs that share an fdatasync.

func benchDB(b *testing.B) *DB {
	db, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// benchUpdate writes two keys, as a create of a file does.
func benchUpdate(s *Space, n uint64) (Position, error) {
	return s.Update(func(tx *Tx) error {
		key := binary.BigEndian.AppendUint64([]byte("inode"), n)
		if _, _, err := tx.Get(key); err != nil {
			return err
		}
		tx.Put(key, make([]byte, 100))
		tx.Put(binary.BigEndian.AppendUint64([]byte("name"), n), make([]byte, 16))
		return nil
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, workers := range []int{1, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := benchDB(b).Space(Shared)
			var n atomic.Uint64
			b.SetParallelism(workers)
			b.ReportAllocs()
			b.ResetTimer()
			if workers == 1 {
				for b.Loop() {
					if _, err := benchUpdate(s, n.Add(1)); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := benchUpdate(s, n.Add(1)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

func BenchmarkSync(b *testing.B) {
	db := benchDB(b)
	s := db.Space(Shared)
	var n atomic.Uint64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := benchUpdate(s, n.Add(1))
			if err == nil {
				err = db.Sync(context.Background(), p)
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	db := benchDB(b)
	s := db.Space(Shared)
	const keys = 10_000
	for n := range uint64(keys) {
		if _, err := benchUpdate(s, n); err != nil {
			b.Fatal(err)
		}
	}
	key := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte("inode"), uint64(n%keys)) }
	for _, where := range []string{"overlay", "table"} {
		b.Run(where, func(b *testing.B) {
			if where == "table" {
				if err := db.foldUpTo(db.Position()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, ok, err := s.Get(key(n)); err != nil || !ok {
					b.Fatal(ok, err)
				}
				n++
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	db := benchDB(b)
	s := db.Space(Shared)
	for n := range uint64(10_000) {
		if _, err := benchUpdate(s, n); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if out, err := s.Scan([]byte("inode"), nil, 100); err != nil || len(out) != 100 {
			b.Fatal(len(out), err)
		}
	}
}
