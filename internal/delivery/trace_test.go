package delivery

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/jobs"
)

func TestTraceID(t *testing.T) {
	t.Parallel()
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for text, want := range map[string]string{
		"00-" + id + "-" + parent + "-01":                         id,
		"01-" + id + "-" + parent + "-01-later":                   id, // a version to come may have more
		"00-" + id + "-" + parent + "-01later":                    "",
		"ff-" + id + "-" + parent + "-01":                         "",
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":        "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01":    "",
		"00-" + id + "-" + parent:                                 "",
		"00-" + id + "_" + parent + "-01":                         "",
		"00-" + id[:31] + "\n-" + parent + "-01":                  "",
		"":                                                        "",
		"'; a publisher writes here what he likes, of any length": "",
	} {
		for _, name := range []string{"traceparent", "Traceparent"} {
			d := Delivery{Message: jobs.Message{Headers: map[string][]string{name: {text}}}}
			require.Equal(t, want, d.TraceID(), text)
		}
	}
	require.Empty(t, (&Delivery{}).TraceID())
}
