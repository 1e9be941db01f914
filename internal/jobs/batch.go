package jobs

import (
	"context"
	"encoding/binary"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
	"dbrunner/internal/jsontext"
)

// inputName is what an object with parameters may be called: one word that no program takes for a path.
var inputName = regexp.MustCompile(`^[A-Za-z0-9_=-][A-Za-z0-9._=-]*$`)

const maxInputName = 200 // characters

// Where the keys of a reference to parameters are in their list.
const (
	inputKeyName = iota
	inputKeyDigest
	inputKeyCompression
)

var inputKeys = []string{inputKeyName: "name", inputKeyDigest: "digest", inputKeyCompression: "compression"}

// batch reads the list of parameters that a statement runs for; s has its text and nothing else yet.
func (r *reader) batch(owner, at int, s *statement) {
	if r.Kind(at) != jsontext.Array || r.Len(at) == 0 {
		r.reject(at, contract.CodeInvalidValue, "must be a list with at least one list or object of parameters"+r.hintNull(at))
		return
	}
	rows := &inlineRows{args: make([][]dialect.Value, 0, r.Len(at))}
	s.rows = make([]dialect.Params, 0, r.Len(at))
	before := r.faulty()
	for i, n := at+1, 0; i < r.After(at); i, n = r.After(i), n+1 {
		params, ok := r.params(i)
		if !ok {
			continue
		}
		compiled, faults := dialect.Compile(r.dialect, dialect.Statement{SQL: s.source.SQL, Params: params})
		for _, f := range faults {
			path := f.Path
			if rest, ok := strings.CutPrefix(path, "params"); ok { // a path into this element
				path = "batch[" + strconv.Itoa(n) + "]" + rest
			}
			r.rejectBelow(owner, path, f.Code, f.Message)
		}
		if r.faulty() > before {
			if slices.ContainsFunc(faults, ofText) {
				return // it would be rejected for each element
			}
			continue
		}
		s.rows, rows.args = append(s.rows, params), append(rows.args, compiled.Args)
		if s.compiled == nil {
			s.compiled = &dialect.Compiled{SQL: compiled.SQL, Batch: rows, Origin: compiled.Origin}
		}
		if compiled.SQL != s.compiled.SQL {
			r.reject(i, contract.CodeParameterNotTyped, "all elements of a batch are lists, or all are objects")
		}
	}
}

// inlineRows are the rows of a batch that the job has with it.
type inlineRows struct{ args [][]dialect.Value }

func (b *inlineRows) Open(context.Context) (dialect.BatchRows, error) { return &openInline{b, 0}, nil }

type openInline struct {
	*inlineRows

	next int
}

func (o *openInline) Next() ([]dialect.Value, error) {
	if o.next == len(o.args) {
		return nil, io.EOF
	}
	o.next++
	return o.args[o.next-1], nil
}

func (*openInline) Close() error { return nil }

// inputRef names the parameters of a batch that are outside of the job.
type inputRef struct{ name, digest, compression string }

// paramsFrom reads a reference to parameters outside of the job.
func (r *reader) paramsFrom(owner, at int, s *statement) {
	if !r.isObject(at, `{"name": "…", "digest": "SHA-256=…"}`) {
		return
	}
	var found [3]int
	before := r.faulty()
	r.members(at, inputKeys, found[:])
	ref := &inputRef{compression: defaultCompression}
	ref.name = r.requiredText(at, found[inputKeyName], "name", func(text string) bool {
		return len(text) <= maxInputName && inputName.MatchString(text) && !strings.Contains(text, "..")
	}, "must be the name of an object: 1 to 200 of A-Z a-z 0-9 _ = - and ., not beginning with a dot and without ..")
	ref.digest = bulk.CanonicalDigest(r.requiredText(at, found[inputKeyDigest], "digest",
		func(text string) bool { return bulk.CanonicalDigest(text) != "" },
		`must be the object's SHA-256 digest: "SHA-256=" and 44 characters of base64, as the object store writes it, `+
			`or 64 hexadecimal digits, as nats object info and sha256sum print it`))
	if c := found[inputKeyCompression]; c != 0 {
		if i, ok := r.isOneOf(c, rowfile.Compressions()...); ok {
			ref.compression = rowfile.Compressions()[i]
		}
	}
	text, faults := dialect.CompileText(r.dialect, s.source.SQL)
	for _, f := range faults {
		r.rejectBelow(owner, f.Path, f.Code, f.Message)
	}
	if r.faulty() > before {
		return
	}
	s.from = ref
	s.compiled = &dialect.Compiled{SQL: text, Origin: dialect.OriginOf(r.dialect, s.source.SQL), Batch: &bulk.Params{
		Inputs: r.inputs, Name: ref.name, Digest: ref.digest, Compression: ref.compression, NewParser: rowParser(r.dialect, s.source.SQL, text),
	}}
}

func (r *reader) requiredText(owner, at int, key string, valid func(string) bool, what string) string {
	if at == 0 {
		r.rejectBelow(owner, key, contract.CodeMissingKey, "is required: "+what)
		return ""
	}
	if r.Kind(at) == jsontext.String && valid(r.Str(at)) {
		return r.Str(at)
	}
	r.reject(at, contract.CodeInvalidValue, what+r.hintNull(at))
	return ""
}

// hashBatch appends the canonical encoding of what a statement runs for.
func (s *statement) hashBatch(dst []byte) []byte {
	if s.from != nil {
		dst = appendSized(append(dst, 'f'), s.from.name)
		return appendSized(appendSized(dst, s.from.digest), s.from.compression)
	}
	dst = binary.AppendUvarint(append(dst, 'b'), uint64(len(s.rows)))
	for i := range s.rows {
		dst = hashParams(dst, &s.rows[i])
	}
	return dst
}

// rowParser makes the arguments of rows that are outside of the job, for a statement as the publisher wrote it and its text as
// the database gets it.
func rowParser(d *dialect.Dialect, sql, text string) func() bulk.Parser {
	return func() bulk.Parser {
		r := &reader{dialect: d}
		return func(line []byte) ([]dialect.Value, string) {
			r.reset()
			if fault := r.Read(line, maxDepth, maxValues); fault != nil {
				return nil, "is no JSON: " + fault.Message
			}
			params, ok := r.params(0)
			if !ok || r.faulty() > 0 {
				return nil, r.takeFaults()[0].Message
			}
			compiled, faults := dialect.Compile(d, dialect.Statement{SQL: sql, Params: params})
			switch {
			case len(faults) > 0:
				return nil, faults[0].Path + ": " + faults[0].Message
			case text != compiled.SQL:
				return nil, "is a list although the text has :names, or an object although it has none"
			}
			return compiled.Args, ""
		}
	}
}
