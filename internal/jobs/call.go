package jobs

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/catalog"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
	"dbrunner/internal/spell"
)

// call is the work of kind call: the query or the transaction that the catalog has under the name in the subject.
type call struct {
	work                     // nil: it cannot run
	given []catalog.Argument // the parameters as they were published, in the order of their names
}

// callOf is what the result of a call names; nil for other kinds.
func (d *Decoder) callOf(k *kind, in *Message) *contract.Call {
	if k == nil || !k.named {
		return nil
	}
	c := &contract.Call{Name: in.Name}
	if s := d.opts.Policy.Catalog.Statement(in.Name); s != nil {
		c.Revision = s.Revision
	}
	return c
}

// effectOf resolves a job's effect: that of a call is its definition's.
func (d *Decoder) effectOf(who *identity, k *kind, in *Message) contract.Effect {
	switch {
	case k == nil || !k.fixed:
		return who.jobEffect(k)
	case len(k.effects) == 1:
		return k.effects[0]
	default:
		return callEffect(d.opts.Policy.Catalog.Statement(in.Name))
	}
}

// callEffect is the effect of a statement of the catalog; empty if it is not known.
func callEffect(s *catalog.Statement) contract.Effect {
	if s == nil {
		return ""
	}
	return s.Effect()
}

// checkFixedEffect rejects a job that states an effect although it cannot choose, or whose effect the database may not have.
func (d *Decoder) checkFixedEffect(r *reader, effect contract.Effect, k *kind) {
	why, what := "a call has the effect of its statement", "this statement"
	if len(k.effects) == 1 {
		why, what = "jobs of kind "+k.name+" always have the effect "+string(effect), "a job of kind "+k.name
	}
	if at := r.top[keyEffect]; at != 0 {
		r.reject(at, contract.CodeInvalidValue, why+": leave the key out")
	}
	p := d.opts.Policy
	switch {
	case effect == "" || p.AllowsEffect(effect):
	case !p.Ledger:
		r.rejectBelow(0, "", contract.CodeEffectNotAllowed, what+" is a transaction, which needs a ledger, and this database has none")
	default:
		r.rejectBelow(0, "", contract.CodeEffectNotAllowed, what+" has the effect "+string(effect)+", which is not allowed on this database")
	}
}

// limitCall lowers the job's limits to those of its statement.
func (d *Decoder) limitCall(r *reader, job *Job) {
	s := r.called
	if s == nil {
		return
	}
	job.MaxRows = TighterLimit(job.MaxRows, s.MaxRows)
	if s.Timeout > 0 && job.Timeout > s.Timeout {
		if at := r.top[keyTimeout]; at != 0 {
			r.reject(at, contract.CodeInvalidValue, "is longer than this statement allows: at most "+s.Timeout.String())
		}
		job.Timeout = s.Timeout
	}
}

// decodeCall reads params, and makes of them what the statement's definition says.
func decodeCall(r *reader, at []int) work { return readCall(r, at) }

func readCall(r *reader, at []int) *call {
	c := &call{}
	before := r.faulty()
	if at[0] != 0 {
		c.given = givenParams(r, at[0])
	}
	r.understood = r.faulty() == before
	s := r.called
	if s == nil {
		unknownCall(r)
		return c
	}
	if !r.understood {
		return c
	}
	compiled, faults := s.Bind(r.dialect, c.given)
	for _, f := range faults {
		r.rejectBelow(0, f.Path, f.Code, f.Message)
	}
	if len(faults) == 0 {
		c.work = workOf(s, compiled)
	}
	return c
}

// givenParams reads an object of parameters.
func givenParams(r *reader, at int) (out []catalog.Argument) {
	if !r.isObject(at, `write {"name": value}`) {
		return nil
	}
	seen := map[string]bool{} // a hostile body has very many
	for key := at + 1; key < r.After(at); key = r.After(key + 1) {
		a := catalog.Argument{Name: r.Str(key), Value: r.value(key + 1)}
		if seen[a.Name] {
			r.reject(key, contract.CodeDuplicateKey, "duplicate parameter: write it once")
		}
		seen[a.Name] = true
		a.JSON = []byte(r.Raw(key + 1))
		if a.Value.Kind == dialect.String {
			a.JSON = jsontext.AppendString(nil, a.Value.Text)
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b catalog.Argument) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// unknownCall rejects a name that the catalog does not have.
func unknownCall(r *reader) {
	message := "the catalog of this database has no statement of this name"
	if near := spell.Nearest(r.calledName, r.calls, max(1, len(r.calledName)/3)); near != "" {
		message += ": did you mean " + near + "?"
	}
	r.rejectBelow(0, "", contract.CodeUnknownCall, message)
}

// workOf is the work of a query or of a transaction.
func workOf(s *catalog.Statement, compiled []*dialect.Compiled) work {
	if s.Query {
		return &query{statement{compiled: compiled[0]}}
	}
	t := &transaction{maxAffected: s.MaxAffected, statements: make([]statement, len(compiled))}
	t.tx.Statements, t.tx.Expect = compiled, make([]*db.Range, len(compiled))
	if i := slices.Index(isolations, s.Isolation); i >= 0 {
		t.tx.Isolation = db.ReadCommitted + db.Isolation(i) //nolint:gosec // there are four
	}
	for i := range compiled {
		t.statements[i].compiled = compiled[i]
		if expect := s.Texts[i].Expect; expect != nil {
			t.tx.Expect[i] = &db.Range{Min: expect.Min, Max: expect.Max}
		}
	}
	return t
}

// hash covers the parameters as they were published: neither defaults nor the definition.
func (c *call) hash(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.given)))
	for i := range c.given {
		dst = appendSized(dst, c.given[i].Name)
		var t jsontext.Tape
		if t.Read(c.given[i].JSON, maxDepth, maxValues) != nil {
			dst = appendSized(dst, string(c.given[i].JSON))
			continue
		}
		dst = t.AppendCanonical(dst, 0)
	}
	return dst
}

func (c *call) run(ctx context.Context, x *Execution) (Answer, error) { return c.work.run(ctx, x) }
