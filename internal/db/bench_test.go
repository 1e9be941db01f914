package db_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

const benchSQL = `SELECT o.id, o.total::numeric(12,2), c.name -- the customer's orders
FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE c.id = :customer AND o.created_at >= :since AND o.state <> 'it''s done' LIMIT :limit`

func benchParams() db.Params {
	return db.Params{Named: map[string]db.Value{
		"customer": number("42"), "since": text("2024-01-01"), "limit": number("100"),
	}}
}

func BenchmarkLexer(b *testing.B) {
	d := postgres()
	b.SetBytes(int64(len(benchSQL)))
	b.ReportAllocs()
	for b.Loop() {
		l := db.NewLexer(d, benchSQL)
		for {
			if _, ok := l.Next(); !ok {
				break
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	cached := postgres()
	cached.Cache = db.NewCache(1 << 20)
	for name, d := range map[string]*db.Dialect{"cold": postgres(), "cached": cached} {
		stmt := db.Statement{SQL: benchSQL, Params: benchParams()}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, faults := db.Compile(d, stmt); len(faults) > 0 {
					b.Fatal(faults)
				}
			}
		})
	}
}

func BenchmarkCheckReadOnlyCached(b *testing.B) {
	d := postgres()
	d.Cache = db.NewCache(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if faults := db.CheckReadOnly(d, benchSQL); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}

func BenchmarkCompileCachedParallel(b *testing.B) {
	d := postgres()
	d.Cache = db.NewCache(1 << 20)
	stmt := db.Statement{SQL: benchSQL, Params: benchParams()}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			db.Compile(d, stmt)
		}
	})
}

func BenchmarkRowEncoder(b *testing.B) {
	cols := []db.Column{{Name: "id"}, {Name: "name"}, {Name: "total"}, {Name: "created_at"}, {Name: "note"}}
	note := []byte("a note of some forty characters, plain text")
	for _, format := range []db.RowFormat{db.Objects, db.Arrays} {
		for _, rows := range []int{1, 100, 10000} {
			b.Run(fmt.Sprintf("format=%d/rows=%d", format, rows), func(b *testing.B) {
				e := db.NewRowEncoder(db.RowOptions{}, nil)
				b.ReportAllocs()
				for b.Loop() {
					e.Reset(db.RowOptions{Format: format, MaxRows: 1 << 30, MaxBytes: 1 << 40})
					if err := e.Start(cols); err != nil {
						b.Fatal(err)
					}
					for i := range rows {
						dst := strconv.AppendInt(e.Next(e.BeginRow()), int64(i), 10)
						dst = jsontext.AppendString(e.Next(dst), "Ada Lovelace")
						dst = append(e.Next(dst), `"1234.56"`...)
						dst = jsontext.AppendString(e.Next(dst), "2024-01-01T00:00:00Z")
						dst = jsontext.AppendString(e.Next(dst), note)
						if err := e.EndRow(dst); err != nil {
							b.Fatal(err)
						}
					}
					set, err := e.Finish()
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(len(set.Rows)))
				}
			})
		}
	}
}

func BenchmarkAppendJSONString(b *testing.B) {
	for name, s := range map[string]string{
		"short": "Ada", "ascii": strings.Repeat("plain text ", 100), "escapes": strings.Repeat("a \"b\"\n", 100),
		"umlauts": strings.Repeat("größer ", 100), "cjk": strings.Repeat("日本語", 100),
	} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 4096)
			b.SetBytes(int64(len(s)))
			b.ReportAllocs()
			for b.Loop() {
				dst = jsontext.AppendString(dst[:0], s)
			}
		})
	}
}
