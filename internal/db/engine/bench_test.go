package engine_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/jsontext"
)

func BenchmarkRowEncoder(b *testing.B) {
	cols := []contract.Column{{Name: "id"}, {Name: "name"}, {Name: "total"}, {Name: "created_at"}, {Name: "note"}}
	note := []byte("a note of some forty characters, plain text")
	for _, format := range []db.RowFormat{db.Objects, db.Arrays} {
		for _, rows := range []int{1, 100, 10000} {
			b.Run(fmt.Sprintf("format=%d/rows=%d", format, rows), func(b *testing.B) {
				e := engine.NewRowEncoder(db.RowOptions{}, nil)
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
