package dialect_test

import (
	"testing"

	"dbrunner/internal/db/dialect"
)

const benchSQL = `SELECT o.id, o.total::numeric(12,2), c.name -- the customer's orders
FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE c.id = :customer AND o.created_at >= :since AND o.state <> 'it''s done' LIMIT :limit`

func benchParams() dialect.Params {
	return dialect.Params{Named: map[string]dialect.Value{
		"customer": number("42"), "since": text("2024-01-01"), "limit": number("100"),
	}}
}

func BenchmarkLexer(b *testing.B) {
	d := postgres()
	b.SetBytes(int64(len(benchSQL)))
	b.ReportAllocs()
	for b.Loop() {
		l := dialect.NewLexer(d, benchSQL)
		for {
			if _, ok := l.Next(); !ok {
				break
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	cached := postgres()
	cached.Cache = dialect.NewCache(1 << 20)
	for name, d := range map[string]*dialect.Dialect{"cold": postgres(), "cached": cached} {
		stmt := dialect.Statement{SQL: benchSQL, Params: benchParams()}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, faults := dialect.Compile(d, stmt); len(faults) > 0 {
					b.Fatal(faults)
				}
			}
		})
	}
}

func BenchmarkCheckReadOnlyCached(b *testing.B) {
	d := postgres()
	d.Cache = dialect.NewCache(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if faults := dialect.CheckReadOnly(d, benchSQL); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}

func BenchmarkCompileCachedParallel(b *testing.B) {
	d := postgres()
	d.Cache = dialect.NewCache(1 << 20)
	stmt := dialect.Statement{SQL: benchSQL, Params: benchParams()}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			dialect.Compile(d, stmt)
		}
	})
}
