package contract

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"dbrunner/internal/jsontext"
)

// The keys of members, from the tags of the structs.
var (
	resultKeys = keysOf(reflect.TypeFor[Result]())
	answerKeys = keysOf(reflect.TypeFor[Answer]())
	setKeys    = keysOf(reflect.TypeFor[Set]())
	columnKeys = keysOf(reflect.TypeFor[Column]())
	objectKeys = keysOf(reflect.TypeFor[RowsObject]())
	errorKeys  = keysOf(reflect.TypeFor[Error]())
	faultKeys  = keysOf(reflect.TypeFor[Fault]())
	callKeys   = keysOf(reflect.TypeFor[Call]())
)

// members appends the members of one struct. Each call of a method is about the next field of the struct.
type members struct {
	dst  []byte
	keys []string // of the fields to come
}

// key appends the next field's key. The first member of an object follows its brace directly.
func (m *members) key() {
	if m.dst[len(m.dst)-1] != '{' {
		m.dst = append(m.dst, ',')
	}
	m.dst = append(m.dst, m.keys[0]...)
	m.skip()
}

// skip leaves out the next field.
func (m *members) skip() { m.keys = m.keys[1:] }

// has starts the next field if it says something.
func (m *members) has(something bool) bool {
	if something {
		m.key()
	} else {
		m.skip()
	}
	return something
}

func (m *members) text(s string) {
	m.key()
	m.dst = jsontext.AppendString(m.dst, s)
}

func (m *members) textIfAny(s string) {
	if m.has(s != "") {
		m.dst = jsontext.AppendString(m.dst, s)
	}
}

func (m *members) unsigned(n uint64) {
	m.key()
	m.dst = strconv.AppendUint(m.dst, n, 10)
}

func (m *members) integer(n int64) {
	m.key()
	m.dst = strconv.AppendInt(m.dst, n, 10)
}

func (m *members) trueIf(b bool) {
	if m.has(b) {
		m.dst = append(m.dst, "true"...)
	}
}

// moment appends an RFC 3339 time in UTC, exact to the nanosecond.
func (m *members) moment(t time.Time) {
	m.key()
	m.dst = append(t.UTC().AppendFormat(append(m.dst, '"'), time.RFC3339Nano), '"')
}

// Append appends the result as one JSON object.
func (r *Result) Append(dst []byte) []byte {
	m := members{append(dst, '{'), resultKeys}
	m.integer(Version)
	m.trueIf(r.Duplicate)
	m.trueIf(r.RowsExpired)
	m.text(r.JobID)
	m.text(r.Kind)
	m.text(r.Database)
	m.textIfAny(string(r.Effect))
	m.text(string(r.Status))
	if m.has(len(r.Hash) > 0) {
		m.dst = append(hex.AppendEncode(append(m.dst, '"'), r.Hash), '"')
	}
	m.unsigned(r.Sequence)
	m.unsigned(r.Deliveries)
	m.unsigned(r.Attempts)
	m.text(r.Runner)
	m.moment(r.QueuedAt)
	if r.StartedAt.IsZero() {
		m.skip()
	} else {
		m.moment(r.StartedAt)
	}
	m.moment(r.FinishedAt)
	if m.has(len(r.Labels) > 0) {
		m.dst = appendLabels(m.dst, r.Labels)
	}
	if m.has(r.Call != nil) {
		m.dst = r.Call.append(m.dst)
	}
	m.dst = r.append(m.dst)
	if m.has(r.Error != nil) {
		m.dst = r.Error.Append(m.dst)
	}
	return append(m.dst, '}')
}

func (c *Call) append(dst []byte) []byte {
	m := members{append(dst, '{'), callKeys}
	m.text(c.Name)
	m.textIfAny(c.Revision)
	return append(m.dst, '}')
}

// MarshalJSON encodes the result as Append does.
func (r Result) MarshalJSON() ([]byte, error) { return r.Append(nil), nil }

func appendLabels(dst []byte, labels map[string]string) []byte {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsontext.AppendString(append(jsontext.AppendString(dst, name), ':'), labels[name])
	}
	return append(dst, '}')
}

// append appends the answer's members behind those of its result.
func (a *Answer) append(dst []byte) []byte {
	m := members{dst, answerKeys}
	m.textIfAny(a.Engine)
	m.dst = a.Set.append(m.dst)
	if m.has(a.Statements != nil) {
		m.dst = appendList(m.dst, a.Statements, appendSet)
	}
	if m.has(len(a.Request) > 0) {
		m.dst = append(m.dst, a.Request...)
	}
	m.textIfAny(a.EffectDigest)
	if a.Health != nil {
		m.dst = appendMembers(m.dst, a.Health)
	}
	if a.Migration != nil {
		m.dst = appendMembers(m.dst, a.Migration)
	}
	return m.dst
}

// appendMembers appends the members of a struct that is encoded rarely. It panics on what JSON cannot express.
func appendMembers(dst []byte, of any) []byte {
	encoded, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	return append(append(dst, ','), encoded[1:len(encoded)-1]...)
}

func appendList[T any](dst []byte, list []T, element func([]byte, *T) []byte) []byte {
	dst = append(dst, '[')
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = element(dst, &list[i])
	}
	return append(dst, ']')
}

// append appends the set's members.
func (s *Set) append(dst []byte) []byte {
	m := members{dst, setKeys}
	m.textIfAny(s.Command)
	if m.has(s.RowsAffected != nil) {
		m.dst = strconv.AppendInt(m.dst, *s.RowsAffected, 10)
	}
	if m.has(s.Columns != nil) {
		m.dst = appendList(m.dst, s.Columns, appendColumn)
		s.appendRows(&m)
	} else {
		m.keys = m.keys[4:]
	}
	if m.has(len(s.More) > 0) {
		m.dst = appendList(m.dst, s.More, appendSet)
	}
	return m.dst
}

// appendRows appends the rows, or where they are, and their number.
func (s *Set) appendRows(m *members) {
	if m.has(s.Object != nil) {
		m.dst = s.Object.append(m.dst)
		m.skip()
	} else {
		m.key()
		if len(s.Rows) == 0 {
			m.dst = append(m.dst, "[]"...)
		}
		m.dst = append(m.dst, s.Rows...)
	}
	m.integer(s.RowCount)
	if m.has(s.RowsOmitted > 0) {
		m.dst = strconv.AppendInt(m.dst, s.RowsOmitted, 10)
	}
}

func appendSet(dst []byte, s *Set) []byte { return append(s.append(append(dst, '{')), '}') }

func appendColumn(dst []byte, c *Column) []byte {
	m := members{append(dst, '{'), columnKeys}
	m.text(c.Name)
	m.text(c.Type)
	return append(m.dst, '}')
}

func (o *RowsObject) append(dst []byte) []byte {
	m := members{append(dst, '{'), objectKeys}
	m.text(o.Bucket)
	m.text(o.Name)
	m.integer(o.Size)
	m.integer(o.RowCount)
	m.text(o.Digest)
	m.text(o.Format)
	m.text(o.Compression)
	return append(m.dst, '}')
}

// Append appends the error as a JSON object.
func (e *Error) Append(dst []byte) []byte {
	m := members{append(dst, '{'), errorKeys}
	m.text(string(e.Code))
	m.text(e.Message)
	m.textIfAny(e.EngineCode)
	m.key()
	m.dst = strconv.AppendBool(m.dst, e.Retryable)
	if m.has(len(e.Faults) > 0) {
		m.dst = AppendFaults(m.dst, e.Faults)
	}
	return append(m.dst, '}')
}

// AppendFaults appends faults as a JSON array.
func AppendFaults(dst []byte, faults []Fault) []byte { return appendList(dst, faults, appendFault) }

func appendFault(dst []byte, f *Fault) []byte {
	m := members{append(dst, '{'), faultKeys}
	m.text(f.Path)
	m.text(string(f.Code))
	m.text(f.Message)
	return append(m.dst, '}')
}
