package delivery_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
)

// instant is a database that answers immediately, each statement with the same row.
type instant struct{ db.Database }

func (instant) Engine() string { return "sqlite" }

func (instant) Dialect() *dialect.Dialect { return dialect.SQLite() }

func (instant) set() db.ResultSet {
	return db.ResultSet{Columns: []contract.Column{{Name: "id", Type: "int8"}}, Rows: []byte(`[{"id":"42"}]`), RowCount: 1}
}

func (i instant) Read(context.Context, db.Call, *dialect.Compiled, db.RowOptions) (db.ResultSet, error) {
	return i.set(), nil
}

func (i instant) Execute(context.Context, db.Call, *dialect.Compiled, db.RowOptions, *db.Once) (db.ResultSet, error) {
	return i.set(), nil
}

func (i instant) Transact(ctx context.Context, _ db.Call, _ *db.Transaction, _ db.RowOptions, seal db.BeforeCommit) ([]db.ResultSet, error) {
	sets := []db.ResultSet{i.set()}
	if seal != nil {
		if _, err := seal(ctx, sets); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// BenchmarkExecute is a delivery from its body to its outcome, on a database that answers immediately.
func BenchmarkExecute(b *testing.B) {
	e, err := delivery.NewExecutor(delivery.ExecutorOptions{
		Runner: "r1", Database: instant{}, Policy: &jobs.Policy{Ledger: true, MaxDeliveries: 20}, MaxResult: 1 << 20,
	})
	require.NoError(b, err)
	for name, body := range map[string]string{
		"query":       `{"id":"a1","sql":"SELECT 42","reply_to":"_INBOX.x.y"}`,
		"transaction": `{"statements":[{"sql":"SELECT 42"}]}`,
		"statement":   `{"sql":"VACUUM","effect":"at_least_once"}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out := e.Run(b.Context(), deliver(name, body, 1, 1), nil)
				if out.Status != contract.Succeeded {
					b.Fatal(out)
				}
				out.Release()
			}
		})
	}
}
