package jsontext_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/jsontext"
)

func TestAppendString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": `""`, "plain": `"plain"`, "<&>'/": `"<&>'/"`, `a"b\c`: `"a\"b\\c"`, "\n\r\t\x00\x1f\x7f": `"\n\r\t\u0000\u001f` + "\x7f" + `"`,
		"ä€😀": `"ä€😀"`, "\u2028": "\"\u2028\"", "12345678\"": `"12345678\""`, "1234567\"9": `"1234567\"9"`,
		"a\xffb": `"a\ufffdb"`, "\xed\xa0\x80": `"\ufffd\ufffd\ufffd"`, "\xf0\x9f\x98": `"\ufffd\ufffd\ufffd"`, "\ufffd": "\"\ufffd\"",
	} {
		require.Equal(t, want, string(jsontext.AppendString(nil, in)))
		require.Equal(t, "x"+want, string(jsontext.AppendString([]byte("x"), []byte(in))))
		require.True(t, json.Valid([]byte(want)))
	}
}

func TestAppendTextReportsReplacements(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"": true, "abc": true, "\ufffd": true, "ä\"\n": true, "\xff": false, "aä\xe2\x82": false} {
		_, lossless := jsontext.AppendText(nil, in)
		require.Equal(t, want, lossless, "%q", in)
	}
}

// Each byte at each place of a word of eight: the quick look must not miss one.
func TestAppendStringSeesEveryByteEverywhere(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 17 {
			in := strings.Repeat("a", at) + string([]byte{byte(c)}) + strings.Repeat("z", 17-at)
			requireJSONOf(t, in)
		}
	}
}

func requireJSONOf(t *testing.T, in string) {
	t.Helper()
	out, lossless := jsontext.AppendText(nil, in)
	var back string
	require.NoError(t, json.Unmarshal(out, &back))
	require.Equal(t, utf8.ValidString(in), lossless)
	if lossless {
		require.Equal(t, in, back)
	} else {
		require.Equal(t, string([]rune(in)), back)
	}
	fromBytes, _ := jsontext.AppendText(nil, []byte(in))
	require.Equal(t, out, fromBytes)
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain ASCII text", "ä\"\\\n\x00", "\xff\xed\xa0\x80", "😀12345678"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { requireJSONOf(t, s) })
}

func TestAppendBase64(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		in := []byte("\x00\xff0123456789abcdefghij")[:n]
		require.Equal(t, `x"`+base64.StdEncoding.EncodeToString(in)+`"`, string(jsontext.AppendBase64([]byte("x"), in)))
	}
}
