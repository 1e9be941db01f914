package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// AfterBegin counts, where foreign keys are in force and the file drops tables, the rows that refer to those tables and that
// DROP TABLE would delete, or change, without a word: it deletes the table's rows first, as DELETE does. A file that makes a
// table again means something else.
func (m *migrations) AfterBegin(ctx context.Context, session *sql.Conn, file *migration.File) (func(context.Context) error, error) {
	on, err := hasKeys(ctx, session)
	dropped := m.droppedBy(file)
	if err != nil || !on || len(dropped) == 0 {
		return nil, err
	}
	before, err := references(ctx, session, dropped)
	if err != nil || len(before) == 0 {
		return nil, err
	}
	return func(ctx context.Context) error {
		for _, r := range before {
			after := r
			if err := after.count(ctx, session); err == nil && after.fewerThan(&r) {
				return db.Errorf(db.ClassPermanent, contract.CodeForeignKey, "DROP TABLE took rows of the table %q along, which refers to the table %q: "+
					"to make a table again, write PRAGMA foreign_keys = OFF at the head of the file; rows that are to go are deleted in a file "+
					"of their own", r.child, r.parent)
			}
		}
		return nil
	}, nil
}

// droppedBy returns the tables that a file drops, in lower case.
func (m *migrations) droppedBy(file *migration.File) (tables []string) {
	for i := range file.Parts {
		words := codeOf(m.dialect, file.Parts[i].SQL)
		if len(words) < 3 || words[0] != "drop" || words[1] != "table" {
			continue
		}
		words = words[2:]
		if len(words) > 2 && words[0] == "if" && words[1] == "exists" {
			words = words[2:]
		}
		if len(words) > 2 && words[1] == "." {
			words = words[2:]
		}
		tables = append(tables, words[0])
	}
	return tables
}

// reference is a foreign key by which rows go, or lose their value, with the row that they refer to.
type reference struct {
	child, parent, column string
	rows, values, kinds   int64 // of the child: its rows, those with a value, different values
}

func (r *reference) fewerThan(other *reference) bool {
	return r.rows < other.rows || r.values < other.values || r.kinds < other.kinds
}

// count counts; an error reports that the table, or its column, is not there any more.
func (r *reference) count(ctx context.Context, session *sql.Conn) error {
	column := quoteName(r.column)
	return session.QueryRowContext(ctx, `SELECT count(*), count(`+column+`), count(DISTINCT `+column+`) FROM main.`+quoteName(r.child)).
		Scan(&r.rows, &r.values, &r.kinds)
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// references finds such keys into some tables.
func references(ctx context.Context, session *sql.Conn, parents []string) (found []reference, err error) {
	tables, err := session.QueryContext(ctx, `SELECT name FROM main.sqlite_master WHERE type = 'table' AND sql LIKE '%references%'`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tables.Close()) }()
	for tables.Next() {
		var child string
		if err := tables.Scan(&child); err != nil {
			return nil, err
		}
		list, err := keysOf(ctx, session, child)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if !slices.Contains(parents, strings.ToLower(r.parent)) || strings.EqualFold(r.parent, child) {
				continue
			}
			if err := r.count(ctx, session); err != nil {
				return nil, err
			}
			found = append(found, r)
		}
	}
	return found, tables.Err()
}

// keysOf returns the keys of a table by which its rows go or lose their value.
func keysOf(ctx context.Context, session *sql.Conn, child string) (list []reference, err error) {
	rows, err := session.QueryContext(ctx, `PRAGMA main.foreign_key_list(`+quoteName(child)+`)`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, seq int
		var onUpdate, onDelete, match string
		var to sql.NullString
		r := reference{child: child}
		if err := rows.Scan(&id, &seq, &r.parent, &r.column, &to, &onUpdate, &onDelete, &match); err != nil {
			return nil, err
		}
		if onDelete != "NO ACTION" && onDelete != "RESTRICT" {
			list = append(list, r)
		}
	}
	return list, rows.Err()
}
