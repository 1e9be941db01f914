package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// typed is a transaction of one statement with parameters of types.
func typed(sql string, args ...dialect.Value) *db.Transaction {
	tx := transaction(sql)
	tx.Statements[0].Args = args
	return tx
}

func valueOf(of, text string) dialect.Value {
	return dialect.Value{Kind: dialect.String, Type: of, Text: text}
}

// TestNeighborForgetsTypes: a job that fails in a group as if the type of a parameter were gone makes the session forget the types that it
// knows. A neighbor behind it, which is sent again, has the value that it asked for.
func TestNeighborForgetsTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, sharing)
	b.sql("CREATE DOMAIN picture AS bytea; CREATE TABLE pictures (content bytea)")
	errs := b.grouped([]string{"a", "b", "c"}, []*db.Transaction{
		typed("INSERT INTO effect (id) VALUES ($1)", dialect.Value{Kind: dialect.Number, Text: "1"}),
		typed(`SELECT $1 COLLATE "nosuch"`, valueOf("text", "x")),
		typed("INSERT INTO pictures VALUES ($1)", valueOf("picture", "AQID")),
	})
	require.NoError(t, errs[0])
	requireError(t, errs[1], db.ClassPermanent, contract.CodeUndefined)
	require.NoError(t, errs[2])
	require.Equal(t, 1, b.look(`SELECT count(*) FROM pictures WHERE content = '\x010203'`))
}

// TestManyTypes: a job may name more types than a session remembers.
func TestManyTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql("CREATE DOMAIN picture AS bytea; CREATE TABLE pictures (content bytea)")
	const many = 1001
	tx := transaction()
	for i := range many {
		b.sql(fmt.Sprintf("CREATE DOMAIN picture_%d AS bytea", i))
		tx.Statements = append(tx.Statements, typed("INSERT INTO pictures VALUES ($1)", valueOf(fmt.Sprintf("picture_%d", i), "AQID")).Statements...)
		tx.Expect = append(tx.Expect, nil)
	}
	_, err := b.db.Transact(t.Context(), call(), tx, objects(), nil)
	require.NoError(t, err)
	require.Equal(t, many, b.look(`SELECT count(*) FROM pictures WHERE content = '\x010203'`))
}

// TestTypesOfBatchStayItsOwn: what a job with a batch means by the name of a type, by its own search path, is not what the next job means,
// nor the other way round.
func TestTypesOfBatchStayItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql("CREATE DOMAIN picture AS bytea; CREATE SCHEMA other; CREATE DOMAIN other.picture AS text; CREATE TABLE written (content text)")
	const write = "INSERT INTO written VALUES ($1::text)"
	args := []dialect.Value{valueOf("picture", "AQID")}
	batch := func() *db.Transaction {
		tx := transaction("SET LOCAL search_path = other, public", write)
		tx.Statements[1].Batch = rowsOf{args}
		return tx
	}
	for _, tx := range []*db.Transaction{batch(), typed(write, args...), batch(), typed(write, args...)} {
		_, err := b.db.Transact(t.Context(), call(), tx, objects(), nil)
		require.NoError(t, err)
	}
	require.Equal(t, 2, b.look(`SELECT count(*) FROM written WHERE content = '\x010203'`))
	require.Equal(t, 2, b.look(`SELECT count(*) FROM written WHERE content = 'AQID'`))
}

// TestNameOfTypeMoves: after a migration, the name of a type may be that of another one while the first still exists.
func TestNameOfTypeMoves(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql("CREATE TYPE color AS ENUM ('red'); CREATE TABLE car (color color)")
	insert := func(color string) error {
		_, err := b.db.Transact(t.Context(), call(), typed("INSERT INTO car VALUES ($1)", valueOf("color", color)), objects(), nil)
		return err
	}
	find := func(color string) error {
		tx := typed("SELECT * FROM car WHERE color = $1", valueOf("color", color))
		_, err := b.db.Read(t.Context(), call(), tx.Statements[0], objects())
		return err
	}
	execute := func(color string) error {
		tx := typed("INSERT INTO car VALUES ($1)", valueOf("color", color))
		_, err := b.db.Execute(t.Context(), call(), tx.Statements[0], objects(), nil)
		return err
	}
	for i, uses := range []func(color string) error{insert, find, execute, insert, find, execute} {
		for range 2 {
			require.NoError(t, insert("red"))
			require.NoError(t, find("red"))
		}
		old, color := fmt.Sprintf("color_%d", i), fmt.Sprintf("blue_%d", i)
		if i >= 3 {
			color = "red"
		}
		b.sql("ALTER TYPE color RENAME TO " + old + "; CREATE TYPE color AS ENUM ('red', '" + fmt.Sprintf("blue_%d", i) + "'); " +
			"ALTER TABLE car ALTER color TYPE color USING 'red'::color")
		require.NoError(t, uses(color), i)
		requireError(t, insert("nosuch"), db.ClassPermanent, contract.CodeData)
	}
}
