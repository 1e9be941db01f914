package jobs

import (
	"dbrunner/contract"
	"dbrunner/internal/db/rowfile"
)

// Output is where a job's rows go.
type Output struct {
	Mode        OutputMode
	Format      string // of rows outside of the result
	Compression string // of rows outside of the result
}

// OutputMode is where rows go.
type OutputMode uint8

// The modes, the default first.
const (
	OutputAuto   OutputMode = iota // into the result, or outside where they have no room in it
	OutputInline                   // into the result, where the job fails if they have no room
	OutputObject                   // outside
)

// The words for modes and the defaults of the other keys.
var outputModes = []string{OutputAuto: "auto", OutputInline: "inline", OutputObject: "object"}

const (
	defaultFormat      = "ndjson"
	defaultCompression = "none"
)

// output reads where the rows go and in which form.
func (r *reader) output(job *Job, p *Policy) {
	job.Output = Output{Format: defaultFormat, Compression: defaultCompression}
	if !job.rows {
		job.Output.Mode = OutputInline
		for _, key := range []int{keyOutput, keyFormat, keyCompression} {
			if at := r.top[key]; at != 0 {
				r.reject(at, contract.CodeInvalidValue, "jobs of kind "+job.Kind+" return no rows to offload: leave the key out")
			}
		}
		return
	}
	mode := r.top[keyOutput]
	if mode != 0 {
		if i, ok := r.isOneOf(mode, outputModes...); ok {
			job.Output.Mode = OutputMode(i) //nolint:gosec // there are three
		}
	}
	r.outputForm(job, keyFormat, rowfile.Formats, &job.Output.Format)
	r.outputForm(job, keyCompression, rowfile.Compressions, &job.Output.Compression)
	switch {
	case job.Output.Mode != OutputObject:
	case p.Output.Off:
		r.reject(mode, contract.CodeInvalidValue, `this database's rows stay in its results: write "auto" or "inline"`)
	case job.ReplyOnly:
		r.reject(mode, contract.CodeInvalidValue, `offloaded rows need a stored result: leave the key "answer" out`)
	}
}

// outputForm reads format or compression, where the job has the key.
func (r *reader) outputForm(job *Job, key int, words func() []string, value *string) {
	at := r.top[key]
	if at == 0 {
		return
	}
	list := words()
	i, ok := r.isOneOf(at, list...)
	switch {
	case !ok:
	case job.Output.Mode == OutputInline:
		r.reject(at, contract.CodeInvalidValue, `rows in the result are always JSON: leave the key out, or write "output": "auto"`)
	default:
		*value = list[i]
	}
}
