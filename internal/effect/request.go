package effect

import (
	"bytes"
	"encoding/json"

	"dbrunner/internal/catalog"
)

// Request is what the result of a dry run repeats of it: the members of an object, by key, as JSON texts; those that are empty
// are left out.
func Request(keys, values []string) json.RawMessage {
	out := []byte{'{'}
	for i, key := range keys {
		if values[i] == "" {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), key...), `":`...), values[i]...)
	}
	return append(out, '}')
}

// RequestOf is Request of a named statement: the texts of its definition, and its parameters as published.
func RequestOf(s *catalog.Statement, params string) json.RawMessage {
	type bounds struct {
		Min int64  `json:"min"`
		Max *int64 `json:"max,omitempty"`
	}
	type text struct {
		SQL    string  `json:"sql"`
		Expect *bounds `json:"expect_rows,omitempty"`
	}
	request := struct {
		Statements  []text          `json:"statements"`
		Isolation   string          `json:"isolation,omitempty"`
		MaxAffected int64           `json:"max_affected,omitempty"`
		Params      json.RawMessage `json:"params"`
	}{Isolation: s.Isolation, MaxAffected: s.MaxAffected, Params: json.RawMessage(params)}
	for i := range s.Texts {
		t := text{SQL: s.Texts[i].SQL}
		if e := s.Texts[i].Expect; e != nil {
			t.Expect = &bounds{Min: e.Min}
			if e.Max >= 0 {
				t.Expect.Max = &e.Max
			}
		}
		request.Statements = append(request.Statements, t)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(request); err != nil {
		panic(err) // texts, and JSON that was read
	}
	return bytes.TrimSpace(out.Bytes())
}

// BodyOf is the body of a dry run of a named statement with the request of another one: its parameters, under their key.
func BodyOf(request []byte, key string) []byte {
	var of struct {
		Params json.RawMessage `json:"params"`
	}
	if json.Unmarshal(request, &of) != nil {
		return request // not one that RequestOf has made: decoding it reports that
	}
	return Request([]string{key}, []string{string(of.Params)})
}
