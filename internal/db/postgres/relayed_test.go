package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// relayedCodes are codes that end a session when the server itself means them, and what they mean when a function raises
// them, or a foreign server's are passed on.
var relayedCodes = map[string]db.Class{
	"08000": db.ClassTransient, "08001": db.ClassTransient, "08003": db.ClassTransient, "08006": db.ClassTransient,
	"08007": db.ClassPermanent, "08P01": db.ClassPermanent, "40003": db.ClassPermanent, "40002": db.ClassPermanent,
	"57P01": db.ClassTransient, "57P02": db.ClassTransient, "57P03": db.ClassTransient, "57P05": db.ClassTransient,
	"25P03": db.ClassTransient, "53300": db.ClassTransient, "58000": db.ClassTransient, "XX001": db.ClassPermanent,
	"57014": db.ClassTimeout,
}

// TestRelayedCodes raises codes of lost connections in a session that goes on: what the server has answered is no
// unknown end, no lost connection, and the session is used again.
func TestRelayedCodes(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql(`CREATE FUNCTION fail(code text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'canary' USING ERRCODE = code; END $$`)
	b.sql(`CREATE TABLE late (code text)`)
	b.sql(`CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM fail(NEW.code); RETURN NEW; END $$`)
	b.sql(`CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()`)
	pid := func() string {
		set, err := b.read("SELECT pg_backend_pid() AS pid")
		require.NoError(t, err)
		return string(set.Rows)
	}
	before := pid()
	for code, class := range relayedCodes {
		check := func(err error) {
			t.Helper()
			e, ok := err.(*db.Error) //nolint:errorlint // the engine returns it unwrapped
			require.True(t, ok, "%s: %v", code, err)
			require.Equal(t, class, e.Class, "%s: %v", code, err)
			require.Equal(t, code, e.EngineCode)
			require.NotEqual(t, contract.CodeConnectionLost, e.Code, code)
			require.NotContains(t, e.Message, "canary")
		}
		x := &outside{b: b}
		_, err := x.run(t.Context(), "job-"+code, testTimeout, "SELECT fail('"+code+"')")
		check(err)
		require.Equal(t, 1, x.ended, code)
		require.Equal(t, "failed", b.status("job-"+code), code)
		_, err = b.read("SELECT fail('" + code + "')")
		check(err)
		_, err = b.transact(sealed("tx-"+code), insertOne, "SELECT fail('"+code+"')")
		check(err)
		_, err = b.transact(sealed("tx-"+code), insertOne, "INSERT INTO late VALUES ('"+code+"')")
		check(err)
		require.Equal(t, 0, b.effects(), code)
		row, err := b.db.Lookup(t.Context(), "tx-"+code)
		require.NoError(t, err)
		require.Nil(t, row, code)
	}
	require.Equal(t, before, pid(), "the session was in order all the time")
}
