package crash

import (
	"database/sql"
	"net/url"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// newSQLServerWorld makes a world on SQL Server, or skips where none is named. The runners reach it through a proxy.
func newSQLServerWorld(t *testing.T) (*world, *dbtest.TDSProxy) {
	t.Helper()
	connection := dbtest.SQLServer(t)
	u, err := url.Parse(connection)
	require.NoError(t, err)
	proxy := dbtest.NewTDSProxy(t, u.Host)
	node := bustest.Server(t)
	w := onNATS(t, node.ClientURL())
	w.node = node
	connector, err := mssql.NewConnector(connection)
	require.NoError(t, err)
	w.db = sql.OpenDB(connector)
	t.Cleanup(func() { _ = w.db.Close() })
	w.exec(`CREATE TABLE effects (name nvarchar(200) NOT NULL)`)
	w.url, w.kept = proxy.URL(t, connection), "dbrunner.ledger"
	w.set("SHOP_TYPE=sqlserver", "SHOP_CONNECTION_STRING="+w.url,
		"SHOP_SETTINGS=allow_unencrypted=true,allow_unverified_certificate=true")
	return w, proxy
}

// servers are PostgreSQL and SQL Server.
func servers() map[string]func(*testing.T) *world {
	return map[string]func(*testing.T) *world{
		"postgres":  newWorld,
		"sqlserver": func(t *testing.T) *world { w, _ := newSQLServerWorld(t); return w },
	}
}

// eachServer runs a test on PostgreSQL and on SQL Server.
func eachServer(t *testing.T, name string, test func(t *testing.T, w *world)) {
	t.Helper()
	each(t, servers(), name, test)
}

// eachEngine runs a test on SQLite, too.
func eachEngine(t *testing.T, name string, test func(t *testing.T, w *world)) {
	t.Helper()
	all := servers()
	all["sqlite"] = sqliteWorld
	each(t, all, name, test)
}

func each(t *testing.T, worlds map[string]func(*testing.T) *world, name string, test func(t *testing.T, w *world)) {
	t.Helper()
	for engine, world := range worlds {
		t.Run(engine+"/"+name, func(t *testing.T) {
			t.Parallel()
			test(t, world(t))
		})
	}
}

func TestSQLServerKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w, _ := newSQLServerWorld(t)
			seen := w.startWatching()
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("transaction", insert("a1", "a"))
			first.died()
			w.start("second")
			got := w.stored("a1")
			require.Equal(t, "succeeded", got.Status)
			w.drained()
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("a1"), "subscribers see the result once")
			require.Equal(t, got, w.stored("a1"), "the result does not change any more")
		})
	}
}

// commitText is in the message that commits, and in no other.
const commitText = "COMMIT TRANSACTION; SELECT"

func TestSQLServerLinkCutAroundCommit(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*dbtest.TDSProxy) <-chan struct{}{
		"before": func(p *dbtest.TDSProxy) <-chan struct{} { return p.CutBefore(commitText) },
		"after":  func(p *dbtest.TDSProxy) <-chan struct{} { return p.CutAfter(commitText) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, proxy := newSQLServerWorld(t)
			seen := w.startWatching()
			w.start("r")
			w.serving()
			w.publish("transaction", insert("warm", "warm"))
			require.Equal(t, "succeeded", w.stored("warm").Status)
			happened := cut(proxy)
			w.publish("transaction", insert("a1", "a"))
			require.Equal(t, "succeeded", w.stored("a1").Status)
			w.drained()
			<-happened
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("a1"))
		})
	}
}

func TestSQLServerLinkCutAtCommitAndRunnerKilled(t *testing.T) {
	t.Parallel()
	w, proxy := newSQLServerWorld(t)
	first := w.start("first")
	w.serving()
	w.publish("transaction", insert("warm", "warm"))
	require.Equal(t, "succeeded", w.stored("warm").Status)
	happened := proxy.CutAfter(commitText)
	w.publish("transaction", insert("a1", "a"))
	<-happened
	proxy.Refuse(true)
	first.kill()
	proxy.Refuse(false)
	w.start("second")
	require.Equal(t, "succeeded", w.stored("a1").Status)
	w.drained()
	require.Equal(t, 1, w.effects("a"))
}
