package postgres

import (
	"slices"
	"strconv"
	"strings"

	"dbrunner/internal/db"
)

// The names of types are written out of two names, always quoted where needed: what format_type prints depends
// on the search path of the moment.
const typeNamesSQL = `SELECT t.oid::text, quote_ident(n.nspname) || '.' || quote_ident(coalesce(e.typname, t.typname)) ||
	CASE WHEN e.oid IS NULL THEN '' ELSE '[]' END
FROM pg_catalog.pg_type t
LEFT JOIN pg_catalog.pg_type e ON t.typcategory = 'A' AND e.typarray = t.oid
JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(e.typnamespace, t.typnamespace)
WHERE t.oid = ANY($1::oid[])`

// nameTypes finds the names of the types that the last trip's columns left open.
func (s *session) nameTypes() error {
	if len(s.unnamed) == 0 {
		return nil
	}
	unnamed := s.unnamed
	s.unnamed = nil
	rows, err := s.query(typeNamesSQL, oidList(unnamed))
	if err != nil {
		return err
	}
	for _, row := range rows {
		oid, _ := strconv.ParseUint(string(row[0]), 10, 32)
		s.typeNames[uint32(oid)] = string(row[1])
	}
	for _, u := range unnamed {
		if u.column.Type = s.typeNames[u.oid]; u.column.Type == "" {
			u.column.Type = "unknown" // dropped meanwhile
		}
	}
	return nil
}

func oidList(unnamed []unnamedType) string {
	var list []string
	for _, u := range unnamed {
		list = append(list, strconv.FormatUint(uint64(u.oid), 10))
	}
	slices.Sort(list)
	return "{" + strings.Join(slices.Compact(list), ",") + "}"
}

// maxTypeOIDs bounds what a session remembers of the type names that publishers wrote.
const maxTypeOIDs = 1000

// resolve finds the types of the database's own that parameters name.
func (s *session) resolve(stmts []*db.Compiled) error {
	for i, stmt := range stmts {
		for j := range stmt.Args {
			name := stmt.Args[j].Type
			if name == "" || s.oidOf(name) != 0 {
				continue
			}
			if err := s.resolveName(name, i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) resolveName(name string, statement int) error {
	rows, err := s.query(`SELECT to_regtype($1)::oid::bigint::text`, userTypeName(name))
	if err != nil {
		return err
	}
	if len(rows) != 1 || rows[0][0] == nil {
		return db.Errorf(db.ClassPermanent, db.CodeParameter, "the database has no type %q", name).At(statement)
	}
	oid, err := strconv.ParseUint(string(rows[0][0]), 10, 32)
	if err != nil {
		return err
	}
	if len(s.typeOIDs) >= maxTypeOIDs {
		clear(s.typeOIDs)
	}
	s.typeOIDs[name] = uint32(oid)
	return nil
}
