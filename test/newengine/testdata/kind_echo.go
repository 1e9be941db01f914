package jobs

import (
	"context"
	"encoding/json"
	"errors"

	"dbrunner/contract"
)

// echo is the work of kind echo: it returns the text of its job as a row.
type echo struct{ text string }

// decodeEcho reads text.
func decodeEcho(r *reader, at []int) work {
	e := &echo{}
	if at[0] == 0 {
		r.rejectBelow(0, "text", contract.CodeMissingKey, "is required: a text")
		return e
	}
	e.text, _ = r.isString(at[0], "a text")
	return e
}

func (e *echo) size() int { return 1 }

func (e *echo) hash(dst []byte) []byte { return appendSized(dst, e.text) }

func (e *echo) run(_ context.Context, x *Execution) (Answer, error) {
	if err := x.Call.Begin(); err != nil {
		return Answer{}, err
	}
	rows, err := json.Marshal([]map[string]string{{"text": e.text}})
	if err != nil {
		return Answer{}, errors.New("no JSON")
	}
	set := contract.Set{Columns: []contract.Column{{Name: "text", Type: "text"}}, Rows: rows, RowCount: 1}
	return x.answerOf(contract.Answer{Set: set}, len(rows), nil), nil
}
