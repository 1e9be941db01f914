package postgres

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// The names of types are written out of two names, always quoted where needed: what format_type prints depends
// on the search path of the moment. That path is the job's: nothing here
// is looked up in it, as the session keeps the names for the jobs that follow.
const typeNamesSQL = `SELECT t.oid::pg_catalog.text, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.',
	pg_catalog.quote_ident(coalesce(e.typname, t.typname)), CASE WHEN e.oid IS NULL THEN '' ELSE '[]' END)
FROM pg_catalog.pg_type t
LEFT JOIN pg_catalog.pg_type e ON t.typcategory OPERATOR(pg_catalog.=) 'A' AND e.typarray OPERATOR(pg_catalog.=) t.oid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) coalesce(e.typnamespace, t.typnamespace)
WHERE t.oid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])`

// nameTypes finds the names of the types that the last round trip's columns left open.
func (s *session) nameTypes() error {
	if len(s.unnamed) == 0 {
		return nil
	}
	unnamed := s.unnamed
	s.unnamed = nil
	var oids []string
	for _, u := range unnamed {
		oids = append(oids, strconv.FormatUint(uint64(u.oid), 10))
	}
	slices.Sort(oids)
	rows, err := s.query(typeNamesSQL, "{"+strings.Join(slices.Compact(oids), ",")+"}")
	if err != nil {
		return err
	}
	for _, row := range rows {
		oid, _ := strconv.ParseUint(string(row.value(0)), 10, 32)
		s.typeNames[uint32(oid)] = string(row.value(1))
	}
	for _, u := range unnamed {
		if u.column.Type = s.typeNames[u.oid]; u.column.Type == "" {
			u.column.Type = "unknown" // dropped meanwhile
		}
	}
	return nil
}

// maxOwnTypes bounds what a session remembers of the type names that publishers wrote, besides those of the job at hand.
const maxOwnTypes = 1000

// resolve finds the types of the database's own that parameters name. What it has found for these statements stays.
func (s *session) resolve(stmts []*dialect.Compiled) error {
	if len(s.ownTypes) >= maxOwnTypes {
		clear(s.ownTypes)
	}
	for i, stmt := range stmts {
		for j := range stmt.Args {
			name := stmt.Args[j].Type
			if name == "" || s.oidOf(name) != 0 {
				continue
			}
			rows, err := s.query(resolveSQL, userTypeName(name))
			if err != nil {
				return err
			}
			if len(rows) != 1 || len(rows.first(3)) == 0 {
				return noType(name).At(i)
			}
			oid, err := strconv.ParseUint(string(rows.first(0)), 10, 32)
			elem, wrong := strconv.ParseUint(string(rows.first(1)), 10, 32)
			if err = errors.Join(err, wrong); err != nil {
				return err
			}
			t := paramType{oid: uint32(oid), array: string(rows.first(2)) == "t", delim: rows.first(3)[0]}
			if types.byOID[uint32(elem)] != nil {
				t.elem = uint32(elem)
			}
			s.ownTypes[name] = t
		}
	}
	return nil
}

func noType(name string) *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeParameter, "the database has no type %q", name)
}

// resolved refuses a value whose type is not known any more: a value of such a type would be sent in another form. A group has such a
// one when the session forgot its types after resolve.
func resolved(args []dialect.Value, oids []uint32) error {
	for i := range oids {
		if name := args[i].Type; oids[i] == 0 && name != "" {
			return noType(name)
		}
	}
	return nil
}

// resolveSQL finds a type by its name, and what it is below domains and brackets: its elements' type and delimiter.
const resolveSQL = `WITH RECURSIVE down AS (
	SELECT t.oid AS named, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory = 'A' AND t.typlen = -1 AS is_array,
		false AS inside, t.typdelim, 0 AS depth
	FROM pg_catalog.pg_type t WHERE t.oid = to_regtype($1)
	UNION ALL
	SELECT d.named, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory = 'A' AND t.typlen = -1,
		d.inside OR d.is_array AND d.typtype <> 'd', t.typdelim, d.depth + 1
	FROM down d JOIN pg_catalog.pg_type t
		ON t.oid = CASE WHEN d.typtype = 'd' THEN d.typbasetype WHEN d.is_array AND NOT d.inside THEN d.typelem END)
SELECT named::bigint, oid::bigint, inside, typdelim FROM down ORDER BY depth DESC LIMIT 1`
