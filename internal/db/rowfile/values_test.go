package rowfile

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzValues holds the walker to encoding/json: of whatever is a JSON array it finds the same values, as of the object
// that has them under some keys, and the same texts of strings.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[1]`, `[ 1 , "a" ,null ]`, `["\\\\","\\\"","\"]"]`, `[{"type":"x","value":"}]"},[[],"]"],{}]`, `[1e+20,-0.5,true]`,
		`["\u0001\ud83e\udd86\/\b\f\n\r\t","\ud83e","\ud83ex","\udd86","\ud83e\u0041","\ud83e\ud83e\udd86"]`, `["a,b","\u2028` + "\u2028" + `"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want []json.RawMessage
		if len(text) == 0 || text[0] != '[' || json.Unmarshal(text, &want) != nil {
			return
		}
		object := []byte{'{'}
		for i, value := range want {
			if i > 0 {
				object = append(object, ',')
			}
			object = append(append(object, `"a\\\"]}":`...), value...)
		}
		object = append(object, '}')
		for _, row := range [][]byte{text, object} {
			values := valuesOf(row)
			for i := range want {
				got := values.next()
				if string(got) != string(want[i]) {
					t.Fatalf("value %d of %q is %q, not %q", i, row, got, want[i])
				}
				sameText(t, got)
			}
			if got := values.next(); got != nil {
				t.Fatalf("%q has one more: %q", row, got)
			}
		}
	})
}

func sameText(t *testing.T, value []byte) {
	t.Helper()
	var want string
	if value[0] != '"' || !utf8.Valid(value) {
		return
	}
	if err := json.Unmarshal(value, &want); err != nil {
		t.Fatal(err)
	}
	if got := appendUnescaped(nil, value[1:len(value)-1], 0); string(got) != want {
		t.Fatalf("%q means %q, not %q", value, want, got)
	}
}
