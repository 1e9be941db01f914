package postgres

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// beyondSQL asks the server what a login may do that no transaction takes back: as a superuser, as a member of roles that reach outside of the
// database, and by functions. The login is that of the session, to which a job can return from whatever role it works in.
const beyondSQL = `WITH login AS (SELECT oid, rolsuper, pg_catalog.quote_ident(rolname) AS name FROM pg_catalog.pg_roles WHERE rolname = session_user)
	SELECT 'superuser' AS what, name, name AS via FROM login WHERE rolsuper
	UNION ALL SELECT 'role', r.rolname::text, pg_catalog.quote_ident(v.rolname) FROM login l, pg_catalog.pg_auth_members m
		JOIN pg_catalog.pg_roles r ON r.oid = m.roleid JOIN pg_catalog.pg_roles v ON v.oid = m.member
		WHERE r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_signal_backend', 'pg_write_server_files')
		AND pg_catalog.pg_has_role(l.oid, v.oid, 'MEMBER')
	UNION ALL SELECT 'function', p.oid::pg_catalog.regprocedure::text, l.name FROM login l, pg_catalog.pg_proc p
		WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
		AND p.proname IN ('pg_cancel_backend', 'pg_logical_emit_message', 'pg_terminate_backend')
		AND pg_catalog.has_function_privilege(l.oid, p.oid, 'EXECUTE')
	ORDER BY 1, 2, 3`

var _ db.LoginInspector = (*Database)(nil)

// InspectLogin implements db.LoginInspector.
func (d *Database) InspectLogin(ctx context.Context, timeout time.Duration) ([]db.Finding, error) {
	set, err := d.Read(ctx, db.Call{Label: "check", Timeout: timeout}, &dialect.Compiled{SQL: beyondSQL}, db.RowOptions{Format: db.Arrays})
	if err != nil {
		return nil, err
	}
	defer set.Free()
	var rows [][3]string
	if err := json.Unmarshal(set.Rows, &rows); err != nil {
		return nil, err
	}
	return beyondFindings(rows), nil
}

// beyondFindings grades what the server answered. What every login may do by default is a note.
func beyondFindings(rows [][3]string) (found []db.Finding) {
	via, functions := map[string][]string{}, []string{}
	for _, row := range rows {
		switch row[0] {
		case "superuser":
			return []db.Finding{{
				Part: db.PartLogin, Grade: db.GradeWarning,
				Text: "the login " + row[1] + " is a superuser, and publishers send SQL of their own: it can read and write files of the server, run " +
					"programs and switch limits off",
				Remedy: "give the runner a login without SUPERUSER, with the privileges that its jobs need",
			}}
		case "role":
			via[row[1]] = append(via[row[1]], row[2])
		default:
			functions = append(functions, row[1])
		}
	}
	for _, role := range slices.Sorted(maps.Keys(via)) {
		found = append(found, db.Finding{
			Part: db.PartLogin, Grade: db.GradeWarning,
			Text: "the login is a member of " + role + ", and publishers send SQL of their own: it " + roleUse(role) +
				", and no read-only transaction or limit stops that",
			Remedy: "REVOKE " + role + " FROM " + strings.Join(via[role], ", "),
		})
	}
	if len(functions) > 0 {
		list := strings.Join(functions, ", ")
		found = append(found, db.Finding{
			Part: db.PartLogin, Grade: db.GradeNote,
			Text:   "the login may execute functions that act outside of the transaction of a job: " + list,
			Remedy: "where publishers of SQL are not trusted: REVOKE EXECUTE ON FUNCTION " + list + " FROM PUBLIC",
		})
	}
	return found
}

// roleUse is what members of a role may do.
func roleUse(role string) string {
	switch role {
	case "pg_execute_server_program":
		return "runs programs on the server"
	case "pg_read_server_files":
		return "reads files of the server"
	case "pg_write_server_files":
		return "writes files of the server"
	default:
		return "ends other sessions and their statements"
	}
}
