package jobs

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/jsontext"
)

// Migrator looks after the migrations of a database; see migration.Migrator.
type Migrator interface {
	Run(ctx context.Context, req migration.Request) (*migration.Report, error)
}

// migrate is the work of kind migration: files that bring a database from one version of its schema to another.
type migrate struct {
	action     migration.Action
	target     string
	outOfOrder bool
}

// maxTarget bounds a target, bytes.
const maxTarget = 64

// decodeMigration reads action, target and out_of_order.
func decodeMigration(r *reader, at []int) work {
	m := &migrate{}
	actions := migration.Actions()
	words := make([]string, len(actions))
	for i := range actions {
		words[i] = string(actions[i])
	}
	if at[0] == 0 {
		r.rejectBelow(0, "action", contract.CodeMissingKey, "is required: one of "+joinWords(words))
	} else if i, ok := r.isOneOf(at[0], words...); ok {
		m.action = actions[i]
	}
	if target := at[1]; target != 0 { // a string, or a whole number
		switch r.Kind(target) {
		case jsontext.String:
			m.target = r.Str(target)
		case jsontext.Number:
			m.target = r.Raw(target)
		default:
		}
		if m.target == "" || len(m.target) > maxTarget || !printable(m.target) {
			r.reject(target, contract.CodeInvalidValue, `must be a version such as "3" or "1.2", or "none"`+r.hintNull(target))
		}
	} else if m.action != "" && m.action.NeedsTarget() {
		r.rejectBelow(0, "target", contract.CodeMissingKey, string(m.action)+` needs one: a version such as "3" or "1.2", or "none"`)
	}
	if at[2] != 0 {
		m.outOfOrder = r.isTrue(at[2])
	}
	return m
}

func (m *migrate) size() int { return 1 }

// leavesPartialEffects: the files that were applied before it was stopped stay applied.
func (m *migrate) leavesPartialEffects() bool { return !m.action.Reads() }

func (m *migrate) hash(dst []byte) []byte {
	dst = appendSized(dst, string(m.action))
	dst = appendSized(dst, m.target)
	if m.outOfOrder {
		return append(dst, 'o')
	}
	return append(dst, '-')
}

// run runs the action. It may be repeated: the database's history shows what an earlier attempt, or delivery, has done.
func (m *migrate) run(ctx context.Context, x *Execution) (Answer, error) {
	if x.Migrations == nil {
		return Answer{}, db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "migrations of this database are not possible here: "+
			"behind a pooler in transaction mode they need direct_connection_string")
	}
	report, err := x.Migrations.Run(ctx, migration.Request{
		Action: m.action, Target: m.target, OutOfOrder: m.outOfOrder, Job: x.Call.Label,
		Message: x.Message.DerivedID(), Timeout: x.Call.Timeout, Begin: x.Call.Begin,
	})
	if report == nil {
		return Answer{}, err
	}
	answered := report.Answer(int(x.Rows.MaxBytes) / 2) // JSON escapes take their share
	return Answer{Answer: contract.Answer{Migration: answered}, Filled: true, Size: migrationSize}, err
}

// migrationSize is about what a migration takes in a result, bytes.
const migrationSize = 4 << 10
