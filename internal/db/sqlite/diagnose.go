package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

var _ db.Diagnoser = (*Database)(nil)

// lowSpace is how little room on the disk is worth a warning, bytes.
const lowSpace = 256 << 20

const notWritten = "the database file cannot be written: check the permissions of the file and its folder"

// Caveats is nothing: a file is reached without anything in between.
func (d *Database) Caveats() []db.Finding { return nil }

// Stages goes the way to the file.
func (d *Database) Stages(ctx context.Context) []db.Finding {
	file := d.file()
	stages := []db.Finding{file}
	if file.Grade != db.GradeOK {
		return stages
	}
	v, err := d.Check(ctx)
	if err != nil {
		part := db.PartLogin
		if v.Connect > 0 {
			part = db.PartQuery
		}
		return append(stages, db.Finding{
			Part: part, Grade: db.GradeFault, Text: notOpened(ctx, err).Message,
			Remedy: "check that it is a SQLite database, that no process keeps it locked, and its permissions",
		})
	}
	stages = append(stages, db.Finding{Part: db.PartLogin, Grade: db.GradeOK, Text: "the file was opened", Latency: v.Connect})
	if v.ReadOnly != "" && d.opts.Ledger != db.LedgerOff {
		stages[1].Grade, stages[1].Text, stages[1].Remedy = db.GradeFault, "the database file cannot be written", "check the permissions of the file and its folder"
	}
	return append(stages, db.Finding{Part: db.PartQuery, Grade: db.GradeOK, Text: "its first page was read", Latency: v.Query})
}

// file looks at the file from outside. One that will be created is a note, as there is nothing to look at.
func (d *Database) file() db.Finding {
	f := db.Finding{Part: db.PartFile, Grade: db.GradeFault}
	info, err := os.Stat(d.settings.path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		f.Text, f.Remedy = "the path of the database is not a file", "name a file in the connection string"
	case err == nil:
		f.Grade = db.GradeOK
		f.Text = fmt.Sprintf("%s, %s, %d KiB", filepath.Base(d.settings.path), info.Mode().Perm(), (info.Size()+1023)>>10)
	case !errors.Is(err, fs.ErrNotExist):
		f.Text, f.Remedy = "the database file cannot be inspected", "check the permissions of its folders"
	case !d.settings.create:
		f.Text, f.Remedy = "there is no database file", "create it, or write settings.create: true"
	default:
		// The file is still to be created: check its folder.
		folder := filepath.Dir(d.settings.path)
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			f.Text, f.Remedy = "the folder of the database file does not exist", "create the folder"
		} else if !mayWrite(folder) {
			f.Text, f.Remedy = "the database file cannot be created in its folder", "allow the runner's user to write in the folder"
		} else {
			f.Grade, f.Text = db.GradeNote, "there is no database file yet; a runner creates it: "+filepath.Base(d.settings.path)
		}
	}
	return f
}

// Diagnose looks at the file over a connection of its own.
func (d *Database) Diagnose(ctx context.Context, how db.Diagnosis) ([]db.Finding, error) {
	own := d.settings
	own.create = false // a look makes nothing
	c, err := openFile(ctx, &own, sqlite3.SQLITE_OPEN_READWRITE, true)
	if err != nil {
		return nil, notOpened(ctx, err)
	}
	defer c.close()
	defer c.arm(ctx, 0)()
	if err := c.h.configure(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true); err != nil {
		return nil, c.failed(err, opening)
	}
	l := &inspection{c: c, d: d}
	stages := []engine.Stage{
		{Part: db.PartServer, Run: l.server},
		{Part: db.PartSettings, Run: l.settings},
		{Part: db.PartLocks, Run: l.locks},
		{Part: db.PartLedger, Run: l.ledger},
	}
	if how.Integrity {
		stages = append(stages, engine.Stage{Part: "integrity", Run: l.integrity})
	}
	for i, stage := range stages {
		stages[i].Run = func(ctx context.Context) error { return c.retryBusy(func() error { return stage.Run(ctx) }) }
	}
	l.Run(ctx, stages, func() bool { return false }, "", func(err error) string { return c.failed(err, running).Message })
	return l.Findings, nil
}

// inspection is a diagnosis under way.
type inspection struct {
	engine.Findings

	c *session
	d *Database
}

func (l *inspection) server(context.Context) error {
	l.Find(db.PartServer, db.GradeOK, "", "SQLite %s, in this process", sqlite3.SQLITE_VERSION)
	free, ok := freeSpace(filepath.Dir(l.d.settings.path))
	switch {
	case !ok:
		l.Find(db.PartServer, db.GradeNote, "", "the free space of the disk is not known here")
	case free < lowSpace:
		l.Find(db.PartServer, db.GradeWarning, "make room", "%d MiB of the disk are free", free>>20)
	default:
		l.Find(db.PartServer, db.GradeOK, "", "%d MiB of the disk are free", free>>20)
	}
	return nil
}

func (l *inspection) settings(context.Context) error {
	mode, err := l.c.pragma("PRAGMA journal_mode")
	if err != nil {
		return err
	}
	if mode == "wal" {
		l.Find(db.PartSettings, db.GradeOK, "", "journal_mode = wal")
	} else {
		l.Find(db.PartSettings, db.GradeNote, "", "journal_mode = %s; a runner sets it to wal", mode)
	}
	synchronous := strings.ToLower(l.d.settings.synchronous)
	if synchronous == "normal" {
		l.Find(db.PartSettings, db.GradeWarning, "leave the setting synchronous out",
			"synchronous = normal: an effect that was answered may be lost at a power cut")
	} else {
		l.Find(db.PartSettings, db.GradeOK, "", "synchronous = %s", synchronous)
	}
	if info, err := os.Stat(l.d.settings.path + "-wal"); err == nil {
		l.Find(db.PartSettings, db.GradeOK, "", "the write-ahead log has %d KiB", (info.Size()+1023)>>10)
	}
	return nil
}

// locks tries whether the file could be written at this moment: what prevents it is not known.
func (l *inspection) locks(context.Context) error {
	if l.c.h.readOnly() {
		l.Find(db.PartLocks, db.GradeWarning, "check the permissions of the file and its folder", "the file cannot be written here")
		return nil
	}
	if _, err := l.c.pragma("BEGIN IMMEDIATE"); err != nil {
		if !isBusy(err) {
			return err
		}
		l.Find(db.PartLocks, db.GradeNote, "", "a connection is writing at this moment")
		return nil
	}
	l.Find(db.PartLocks, db.GradeOK, "", "no connection is writing at this moment")
	_, err := l.c.pragma("ROLLBACK")
	return err
}

func (l *inspection) ledger(context.Context) error {
	if l.d.opts.Ledger == db.LedgerOff {
		l.Find(db.PartLedger, db.GradeNote, "", "off")
		return nil
	}
	there, err := l.c.pragma("SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '" + ledgerTable + "'")
	if err != nil {
		return err
	}
	if there == "0" {
		l.Find(db.PartLedger, db.GradeNote, "", "the table %s is missing", ledgerTable)
		return nil
	}
	size, err := l.ledgerSize()
	if err != nil {
		return err
	}
	l.Find(db.PartLedger, db.GradeOK, "", "%s", size)
	return nil
}

func (l *inspection) ledgerSize() (string, error) {
	s, _, err := l.c.h.prepare(`SELECT (SELECT count(*) FROM (SELECT 1 FROM main.dbrunner_ledger WHERE namespace = ?1 AND database_name = ?2 LIMIT ?3)),
		(SELECT COALESCE(sum(length(answer) + 200), 0) FROM (SELECT answer FROM main.dbrunner_ledger LIMIT ?3)),
		(SELECT COALESCE(min(recorded_at), 0) FROM main.dbrunner_ledger WHERE namespace = ?1 AND database_name = ?2)`, 0)
	if err != nil {
		return "", err
	}
	defer s.finalize()
	if err := errors.Join(s.bindText(1, l.d.opts.Namespace), s.bindText(2, l.d.opts.Name), s.bindInt(3, engine.MostLedger)); err != nil {
		return "", err
	}
	if _, err := s.step(); err != nil {
		return "", err
	}
	oldest := ""
	if at := s.columnInt(2); at > 0 {
		oldest = time.Unix(0, at).UTC().Format(time.RFC3339)
	}
	return engine.LedgerSize(s.columnInt(0), s.columnInt(1), oldest), nil
}

func (l *inspection) integrity(context.Context) error {
	answer, err := l.c.pragma("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	if answer == "ok" {
		l.Find("integrity", db.GradeOK, "", "the stored data is in order (quick_check)")
		return nil
	}
	l.Find("integrity", db.GradeFault, "stop the runners, and restore the file from a backup", "the stored data is damaged (quick_check)")
	return nil
}

// DryRun is Probe without its effects.
func (d *Database) DryRun(ctx context.Context) (creates []string, err error) {
	switch file := d.file(); file.Grade {
	case db.GradeFault:
		return nil, db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "%s; %s", file.Text, file.Remedy)
	case db.GradeNote:
		creates = []string{"the database file " + filepath.Base(d.settings.path)}
		if d.opts.Ledger == db.LedgerVerify {
			return creates, db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
				"the ledger (table %s) is missing: create it with what `runner ledger ddl` prints", ledgerTable)
		}
		if d.opts.Ledger == db.LedgerManage {
			creates = append(creates, "the table "+ledgerTable)
		}
		return creates, nil
	case db.GradeOK, db.GradeWarning:
	}
	v, err := d.Check(ctx)
	switch {
	case err != nil:
		return nil, err
	case d.opts.Ledger == db.LedgerOff:
		return nil, nil
	case v.ReadOnly != "":
		return nil, db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, notWritten)
	}
	own := d.settings
	own.create = false
	c, err := openFile(ctx, &own, sqlite3.SQLITE_OPEN_READONLY, true)
	if err != nil {
		return nil, notOpened(ctx, err)
	}
	defer c.close()
	defer c.arm(ctx, 0)()
	there := ""
	err = c.retryBusy(func() (err error) {
		there, err = c.pragma("SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '" + ledgerTable + "'")
		return err
	})
	switch {
	case err != nil:
		return nil, c.failed(err, opening)
	case there == "0" && d.opts.Ledger == db.LedgerManage:
		return []string{"the table " + ledgerTable}, nil
	}
	if failure := d.verify(c); failure != nil {
		return nil, failure
	}
	return nil, nil
}
