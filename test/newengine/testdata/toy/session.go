package toy

import (
	"maps"
	"strings"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// store is the map and its ledger.
type store struct {
	values map[string]string
	ledger map[string]db.Entry
}

func newStore() *store { return &store{values: map[string]string{}, ledger: map[string]db.Entry{}} }

// session is the only connection while it is used: it changes a copy.
type session struct {
	d       *Database
	values  map[string]string
	encoder *engine.RowEncoder
}

func (d *Database) newSession() *session {
	return &session{d: d, values: maps.Clone(d.store.values), encoder: engine.NewRowEncoder(db.RowOptions{}, &d.buffers)}
}

// end gives the session back.
func (s *session) end() { s.d.pool.release() }

// run runs one statement.
func (s *session) run(stmt *dialect.Compiled, args []dialect.Value) (db.ResultSet, error) {
	switch verb, _, _ := strings.Cut(stmt.SQL, " "); {
	case verb == "GET" && len(args) == 1:
		return s.row(args[0].Text)
	case verb == "PUT" && len(args) == 2:
		s.values[args[0].Text] = args[1].Text
		return db.ResultSet{RowsAffected: 1}, nil
	}
	return db.ResultSet{}, errSyntax()
}
