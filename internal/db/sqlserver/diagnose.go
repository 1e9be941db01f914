package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

var _ db.Diagnoser = (*Database)(nil)

// defaultPort is the server's where the connection string names neither a port nor an instance.
const defaultPort = 1433

// place is where the server is, without anything secret.
type place struct {
	host, port string // empty port: only SQL Server Browser knows it
	encrypted  bool
	trusting   bool // any certificate will do
}

func placeOf(connection string) place {
	c, err := msdsn.Parse(connection)
	if err != nil {
		return place{} // Open has refused it
	}
	p := place{
		host: c.Host, encrypted: c.Encryption == msdsn.EncryptionRequired || c.Encryption == msdsn.EncryptionStrict,
		trusting: c.TrustServerCertificate,
	}
	switch {
	case c.Port > 0:
		p.port = strconv.FormatUint(c.Port, 10)
	case c.Instance == "":
		p.port = strconv.Itoa(defaultPort)
	}
	return p
}

// Caveats looks at how the connection string would connect.
func (d *Database) Caveats() []db.Finding {
	switch {
	case !d.place.encrypted:
		return []db.Finding{engine.Unencrypted("write encrypt=true or encrypt=strict in the connection string, and leave allow_unencrypted out")}
	case d.place.trusting:
		return []db.Finding{engine.Unverified("name the authority's file with certificate= in place of TrustServerCertificate, and leave allow_unverified_certificate out")}
	}
	return nil
}

// Stages goes the way to the server. The driver does TLS and login in one go, so that their time is one, too.
func (d *Database) Stages(ctx context.Context) []db.Finding {
	var stages []db.Finding
	if d.place.port == "" {
		stages = append(stages, db.Finding{Part: db.PartTCP, Grade: db.GradeNote, Text: "SQL Server Browser reports the port of the instance"})
	} else {
		found, ok := engine.ReachHost(ctx, d.place.host, d.place.port)
		if stages = found; !ok {
			return stages
		}
	}
	started := time.Now()
	s, err := d.dial(ctx)
	if err != nil {
		return append(stages, d.notEntered(ctx, err)...)
	}
	defer s.destroy()
	defer context.AfterFunc(ctx, s.net.close)()
	stages = append(stages, d.encryption(), engine.LoginAccepted(time.Since(started)))
	started = time.Now()
	if _, err := s.query(ctx, checkSQL); err != nil {
		return append(stages, engine.QueryStage(0, d.checkFailed(ctx, err)))
	}
	return append(stages, engine.QueryStage(time.Since(started), nil))
}

func (d *Database) encryption() db.Finding {
	f := db.Finding{Part: db.PartTLS, Grade: db.GradeOK, Text: "encrypted, the certificate was verified"}
	switch {
	case !d.place.encrypted:
		f.Grade, f.Text = db.GradeNote, "encryption was not requested"
	case d.place.trusting:
		f.Grade, f.Text = db.GradeNote, "encrypted, but the certificate was not verified"
	}
	return f
}

// notEntered is the stage that failed once the host was reached.
func (d *Database) notEntered(ctx context.Context, err error) []db.Finding {
	text, remedy, _ := strings.Cut(d.checkNotConnected(ctx, err).Message, "; ")
	f := db.Finding{Part: db.PartTLS, Grade: db.GradeFault, Text: text, Remedy: remedy}
	if _, answered := errors.AsType[mssql.Error](err); answered {
		f.Part = db.PartLogin
		return []db.Finding{d.encryption(), f}
	}
	if !mentions(err, "tls") && !mentions(err, "encrypt") && !mentions(err, "certificate") {
		f.Part = db.PartLogin
	}
	return []db.Finding{f}
}

// Diagnose looks at the server over a connection of its own.
func (d *Database) Diagnose(ctx context.Context, how db.Diagnosis) ([]db.Finding, error) {
	s, err := d.dial(ctx)
	if err != nil {
		return nil, d.checkNotConnected(ctx, err)
	}
	defer s.destroy()
	defer context.AfterFunc(ctx, s.net.close)()
	l := &inspection{s: s, d: d, how: how}
	l.Run(ctx, []engine.Stage{
		{Part: db.PartServer, Run: l.server},
		{Part: db.PartSettings, Run: l.settings},
		{Part: db.PartSettings, Run: l.session},
		{Part: db.PartLocks, Run: l.locks},
		{Part: db.PartSessions, Run: l.sessions},
		{Part: db.PartLedger, Run: l.ledger},
	}, func() bool { return s.dead }, "GRANT VIEW SERVER STATE to the login to see all of it, if a permission is missing",
		func(err error) string { // by the server's number alone
			if e, ok := errors.AsType[mssql.Error](err); ok {
				return "error " + strconv.Itoa(int(e.Number))
			}
			return l.d.checkFailed(ctx, err).Message
		})
	return l.Findings, nil
}

// inspection is a diagnosis under way.
type inspection struct {
	engine.Findings

	s   *session
	d   *Database
	how db.Diagnosis
}

func (l *inspection) server(ctx context.Context) error {
	t, err := l.s.query(ctx, `SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), CAST(SERVERPROPERTY('Edition') AS nvarchar(128)),
		CAST(@@MAX_CONNECTIONS AS bigint), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(128))`)
	if err != nil {
		return err
	}
	row := t.first()
	l.Find(db.PartServer, db.GradeOK, "", "SQL Server %v, %v", row[0], row[1])
	if row[3] == "READ_ONLY" {
		l.Find(db.PartServer, db.GradeWarning, "connect to the primary, or set ledger.mode: off for reads only", "the database accepts no writes here")
	}
	most := int64(max(l.how.PoolMax, 1))
	if room, ok := row[2].(int64); ok {
		l.Find(db.PartSettings, db.GradeOK, "", "%d connections at most; pool.max is %d, so that at most %d runners fit", room, most, room/most)
	}
	return nil
}

func (l *inspection) settings(ctx context.Context) error {
	t, err := l.s.query(ctx, `SELECT CAST(is_read_committed_snapshot_on AS bigint), CAST(snapshot_isolation_state AS bigint),
		CAST(delayed_durability AS bigint), CAST(compatibility_level AS bigint) FROM sys.databases WHERE database_id = DB_ID()`)
	if err != nil || len(t.rows) == 0 {
		return err
	}
	row := t.first()
	if row[0] == int64(1) {
		l.Find(db.PartSettings, db.GradeOK, "", "READ_COMMITTED_SNAPSHOT is on: reads do not wait for writers")
	} else {
		l.Find(db.PartSettings, db.GradeNote, "a DBA may set it: ALTER DATABASE … SET READ_COMMITTED_SNAPSHOT ON",
			"READ_COMMITTED_SNAPSHOT is off: reads wait for writers, and writers for reads")
	}
	if row[1] == int64(1) {
		l.Find(db.PartSettings, db.GradeOK, "", "ALLOW_SNAPSHOT_ISOLATION is on: jobs may ask for isolation snapshot")
	} else {
		l.Find(db.PartSettings, db.GradeNote, "", "ALLOW_SNAPSHOT_ISOLATION is off: jobs that ask for isolation snapshot fail")
	}
	if row[2] == int64(2) {
		l.Find(db.PartSettings, db.GradeWarning, "ALTER DATABASE … SET DELAYED_DURABILITY = ALLOWED or DISABLED",
			"DELAYED_DURABILITY is forced: a reported effect may be lost if the server crashes")
	}
	l.Find(db.PartSettings, db.GradeOK, "", "compatibility level %v", row[3])
	return nil
}

// xactAbort is the bit of @@OPTIONS that reports that an error rolls a transaction back.
const xactAbort = 16384

func (l *inspection) session(ctx context.Context) error {
	t, err := l.s.query(ctx, "SELECT CAST(@@OPTIONS AS bigint)")
	if err != nil {
		return err
	}
	options, _ := t.first()[0].(int64)
	state := "off"
	if options&xactAbort != 0 {
		state = "on"
	}
	l.Find(db.PartSettings, db.GradeOK, "", "XACT_ABORT is %s by default; a runner sets it on", state)
	return nil
}

// locks reports which sessions wait for which. Of a statement it reports only the kind, as the server names it.
func (l *inspection) locks(ctx context.Context) error {
	t, err := l.s.query(ctx, `SELECT TOP (20) CAST(r.session_id AS bigint), COALESCE(s.program_name, N''), CAST(r.command AS nvarchar(32)),
		CAST(r.wait_time / 1000 AS bigint), CAST(r.blocking_session_id AS bigint), COALESCE(b.program_name, N''), COALESCE(b.status, N'')
		FROM sys.dm_exec_requests r JOIN sys.dm_exec_sessions s ON s.session_id = r.session_id
		LEFT JOIN sys.dm_exec_sessions b ON b.session_id = r.blocking_session_id
		WHERE r.blocking_session_id <> 0 AND r.database_id = DB_ID() ORDER BY r.wait_time DESC`)
	if err != nil {
		return err
	}
	for _, r := range t.rows {
		l.Find(db.PartLocks, db.GradeWarning, fmt.Sprintf("end or commit the transaction of session %v; as a last resort: KILL %v", r[4], r[4]),
			"session %v (%q) waits with %v since %vs for session %v (%q), %v", r[0], r[1], r[2], r[3], r[4], r[5], r[6])
	}
	if len(t.rows) == 0 {
		l.Find(db.PartLocks, db.GradeOK, "", "no session visible to the login waits for a lock")
	}
	return nil
}

func (l *inspection) sessions(ctx context.Context) error {
	t, err := l.s.query(ctx, `SELECT TOP (20) CAST(s.session_id AS bigint), COALESCE(s.program_name, N''), CAST(COALESCE(r.command, N'') AS nvarchar(32)),
		CAST(CASE WHEN r.session_id IS NULL THEN DATEDIFF(second, s.last_request_end_time, GETDATE()) ELSE r.total_elapsed_time / 1000 END AS bigint)
		FROM sys.dm_exec_sessions s LEFT JOIN sys.dm_exec_requests r ON r.session_id = s.session_id
		WHERE s.is_user_process = 1 AND s.session_id <> @@SPID AND s.database_id = DB_ID() AND (
			r.total_elapsed_time > @p1 OR r.session_id IS NULL AND s.open_transaction_count > 0
				AND s.last_request_end_time < DATEADD(second, -1, GETDATE()))
		ORDER BY 4 DESC`, engine.LongStatement.Milliseconds())
	if err != nil {
		return err
	}
	for _, r := range t.rows {
		if r[2] == "" {
			l.Find(db.PartSessions, db.GradeWarning, fmt.Sprintf("it keeps its locks: let its client commit, or KILL %v", r[0]),
				"session %v (%q) is idle in a transaction since %vs", r[0], r[1], r[3])
			continue
		}
		l.Find(db.PartSessions, db.GradeWarning, fmt.Sprintf("if it should not: KILL %v", r[0]),
			"session %v (%q) runs %v since %vs", r[0], r[1], r[2], r[3])
	}
	if len(t.rows) == 0 {
		l.Find(db.PartSessions, db.GradeOK, "", "no statement that the login may see runs for more than %s, and no transaction waits for its client", engine.LongStatement)
	}
	return nil
}

func (l *inspection) ledger(ctx context.Context) error {
	if l.d.opts.Ledger == db.LedgerOff {
		l.Find(db.PartLedger, db.GradeNote, "", "off")
		return nil
	}
	there, err := l.s.columns(ctx)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		l.Find(db.PartLedger, db.GradeNote, "", "the table dbrunner.ledger is missing or invisible to the login")
		return nil
	}
	t, err := l.s.query(ctx, `SELECT (SELECT COUNT_BIG(*) FROM (SELECT TOP (@p3) 1 AS one FROM dbrunner.ledger`+passing+`
			WHERE namespace = CAST(@p1 AS varchar(128)) AND database_name = CAST(@p2 AS varchar(64))) AS r),
		(SELECT COALESCE(SUM(a.total_pages), 0) * 8192 FROM sys.partitions p JOIN sys.allocation_units a
			ON a.container_id = CASE WHEN a.type = 2 THEN p.partition_id ELSE p.hobt_id END
			WHERE p.object_id = OBJECT_ID(N'dbrunner.ledger')),
		(SELECT MIN(recorded_at) FROM dbrunner.ledger`+passing+`
			WHERE namespace = CAST(@p1 AS varchar(128)) AND database_name = CAST(@p2 AS varchar(64)))`,
		mssql.VarCharMax(l.d.opts.Namespace), mssql.VarCharMax(l.d.opts.Name), engine.MostLedger)
	if err != nil {
		return err
	}
	rows, _ := t.first()[0].(int64)
	bytes, _ := t.first()[1].(int64)
	oldest := ""
	if at, ok := t.first()[2].(time.Time); ok {
		oldest = at.UTC().Format(time.RFC3339)
	}
	l.Find(db.PartLedger, db.GradeOK, "", "%s", engine.LedgerSize(rows, bytes, oldest))
	return nil
}

// DryRun is Probe without its effects.
func (d *Database) DryRun(ctx context.Context) (creates []string, err error) {
	err = d.own(ctx, db.ClassLost, func(ctx context.Context, s *session) error {
		if _, err := s.query(ctx, d.texts.own); err != nil {
			return err
		}
		if err := d.readPermissions(ctx, s); err != nil {
			return err
		}
		if d.opts.Ledger == db.LedgerOff {
			return nil
		}
		there, err := s.columns(ctx)
		if err != nil {
			return err
		}
		if d.opts.Ledger != db.LedgerManage || len(there) > 0 || d.rights.standby() {
			return d.verifyLedger(ctx, s)
		}
		creates = []string{engine.LedgerTable}
		// The permissions that creating the ledger needs.
		t, err := s.query(ctx, `SELECT CAST(CASE WHEN HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'CREATE TABLE') = 1 AND (
		SCHEMA_ID(N'dbrunner') IS NULL AND HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'CREATE SCHEMA') = 1
		OR SCHEMA_ID(N'dbrunner') IS NOT NULL AND HAS_PERMS_BY_NAME(N'dbrunner', 'SCHEMA', 'ALTER') = 1) THEN 1 ELSE 0 END AS bigint)`)
		if err != nil {
			return err
		}
		if t.first()[0] != int64(1) {
			return engine.MayNotCreate(d.opts.Name, createRights)
		}
		return nil
	})
	return creates, err
}
