package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/outboxtable"
)

func TestTheIDGoesIntoTheBody(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`:                            `{"id":"a"}`,
		" \n{ }\n":                      `{"id":"a" }` + "\n",
		`{"sql":"SELECT 1"}`:            `{"id":"a","sql":"SELECT 1"}`,
		`{"x":{"id":1},"y":[{"id":2}]}`: `{"id":"a","x":{"id":1},"y":[{"id":2}]}`,
	} {
		got, problem := withID(body, "a")
		require.Empty(t, problem, body)
		require.Equal(t, want, string(got))
	}
	for body, want := range map[string]string{
		``: "invalid_body: the body is not one JSON object (", `[]`: "invalid_body: the body is not one JSON object; ",
		`[{"a":1}]`: "invalid_body: the body is not one", `"x"`: "invalid_body: the body is not one", `null`: "invalid_body: the body is not one",
		`{} {}`: "invalid_body: the body is not one", `{"a":1,}`: "invalid_body: the body is not one", "{\"a\":\"\xff\"}": "invalid_body: the body is not one",
		`{"id":"b"}`: "invalid_body: the body has an id", `{"a":1,"id":null}`: "invalid_body: the body has an id",
		`{"\u0069\u0064":"b"}`: "invalid_body: the body has an id",
	} {
		_, problem := withID(body, "a")
		require.Contains(t, problem, want, body)
	}
}

func TestRowsThatCanNeverBePublished(t *testing.T) {
	t.Parallel()
	const retention = 48 * time.Hour
	sound := outboxtable.Row{Token: "t0", ID: "a", Target: "jobs.b.transaction", Body: `{}`, CreatedAt: time.Unix(1_800_000_000, 0), Age: time.Hour}
	m, problem := message("shop", &sound, true, "b", retention)
	require.Empty(t, problem)
	require.Equal(t, "outbox.shop.t0", m.ID)
	require.Equal(t, sound.CreatedAt.Add(47*time.Hour), m.StoredBy, "an hour before the ledger may have forgotten it")
	m, _ = message("shop", &sound, true, "b", 2*time.Hour+time.Second)
	require.Equal(t, sound.CreatedAt.Add((2*time.Hour+time.Second)*3/4), m.StoredBy, "of a short retention, a quarter")
	require.NotContains(t, m.ID, " ")

	for want, change := range map[string]func(r *outboxtable.Row){
		"invalid_id: ":         func(r *outboxtable.Row) { r.ID = "a b" },
		"invalid_id: the id":   func(r *outboxtable.Row) { r.ID = "s1_abc" },
		"invalid_body: ":       func(r *outboxtable.Row) { r.Body = "{" },
		"too_old: the row is":  func(r *outboxtable.Row) { r.Age = 24*time.Hour + 1 },
		"invalid_created_at: ": func(r *outboxtable.Row) { r.Age = -time.Hour },
	} {
		row := sound
		change(&row)
		_, problem := message("shop", &row, true, "b", retention)
		require.Contains(t, problem, want)
	}
	_, problem = message("shop", &sound, false, "", 0)
	require.Equal(t, "target_not_configured: jobs.b.transaction is not one of outbox.targets; add it there, or remove the row", problem)
}
