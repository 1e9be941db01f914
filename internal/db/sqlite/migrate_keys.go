package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

// Prepare turns the keys of other tables off for a file that does so: in its transaction SQLite would ignore it. Whether
// one of its PRAGMAs turns them off is for SQLite to find out, which knows many words for it: each is run before the
// transaction until they are off. That one fails is reported when the file runs it.
func (m *migrations) Prepare(ctx context.Context, session *sql.Conn, file *migration.File) error {
	if file.Stepwise {
		return nil
	}
	for i := range file.Parts {
		if m.pragmaOf(file.Parts[i].SQL) != "foreign_keys" {
			continue
		}
		_, _ = session.ExecContext(ctx, file.Parts[i].SQL)
		if on, err := hasKeys(ctx, session); err != nil || !on {
			return err
		}
	}
	return nil
}

// hasKeys reports whether the keys of other tables are in force.
func hasKeys(ctx context.Context, session *sql.Conn) (on bool, err error) {
	err = session.QueryRowContext(ctx, `PRAGMA foreign_keys`).Scan(&on)
	return on, err
}

// pragmaOf is the name of the PRAGMA that a statement is, also behind EXPLAIN, which runs it all the same; "" if it is none.
func (m *migrations) pragmaOf(text string) string {
	words := codeOf(m.dialect, text)
	if len(words) > 0 && words[0] == "explain" {
		words = words[1:]
		if len(words) > 1 && words[0] == "query" && words[1] == "plan" {
			words = words[2:]
		}
	}
	switch {
	case len(words) < 2 || words[0] != "pragma":
		return ""
	case len(words) > 3 && words[2] == ".":
		return words[3]
	}
	return words[1]
}

// codeOf returns the first tokens of a statement in lower case, without quotes: what a PRAGMA's name can be among.
func codeOf(d *dialect.Dialect, text string) []string {
	const enough = 8
	var words []string
	lexer := dialect.NewLexer(d, text)
	for len(words) < enough {
		t, ok := lexer.Next()
		if !ok {
			break
		}
		word := text[t.Start:t.End]
		switch t.Kind {
		case dialect.TokenSpace, dialect.TokenComment:
			continue
		case dialect.TokenString, dialect.TokenName:
			word = strings.Trim(word, "'\"`[]")
		default:
		}
		words = append(words, strings.ToLower(word))
	}
	return words
}

// Verify looks whether the keys of other tables hold where a file had them off.
func (m *migrations) Verify(ctx context.Context, session *sql.Conn, file *migration.File) error {
	on, err := hasKeys(ctx, session)
	if err != nil || on && (!file.Stepwise || !m.touchesKeys(file)) {
		return err
	}
	table, err := brokenKey(ctx, session)
	if err != nil || table == "" {
		return err
	}
	return db.Errorf(db.ClassPermanent, contract.CodeForeignKey, "with the file, rows of the table %q would refer to missing rows "+
		"(PRAGMA foreign_key_check)", table)
}

func (m *migrations) touchesKeys(file *migration.File) bool {
	for i := range file.Parts {
		if m.pragmaOf(file.Parts[i].SQL) == "foreign_keys" {
			return true
		}
	}
	return false
}

// brokenKey is a table with a row that refers to none; "" if there is none.
func brokenKey(ctx context.Context, session *sql.Conn) (table string, err error) {
	var row sql.NullInt64
	var parent string
	var key int
	err = session.QueryRowContext(ctx, `PRAGMA main.foreign_key_check`).Scan(&table, &row, &parent, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return table, err
}
