package cron_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/internal/cron"
)

func zone(t require.TestingT, name string) *time.Location {
	location, err := cron.NewZones().Load(name)
	require.NoError(t, err)
	return location
}

func parse(t require.TestingT, expression, name string) cron.Times {
	times, err := cron.Parse(expression, zone(t, name))
	require.NoError(t, err)
	return times
}

func moment(t require.TestingT, text string) time.Time {
	m, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return m
}

// steps lists the next ticks after a time, in the zone.
func steps(t require.TestingT, expression, name, after string, n int) string {
	times, at := parse(t, expression, name), moment(t, after)
	var out []string
	for range n {
		next, found := times.Next(at)
		require.True(t, found)
		require.True(t, next.After(at))
		out = append(out, next.In(zone(t, name)).Format("02T15:04Z07:00"))
		at = next
	}
	return strings.Join(out, " ")
}

// TestChangesOfTheClock: both daylight-saving days of three zones, a missing midnight, and a day that does not exist.
func TestChangesOfTheClock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expression, zone, after, want string }{
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "29T03:00+02:00 30T02:30+02:00"},
		{"0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "29T03:00+02:00 30T02:00+02:00"},
		{"0,30 2-3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "29T03:00+02:00 29T03:30+02:00 30T02:00+02:00"},
		{"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "29T01:30+01:00 29T03:30+02:00 29T04:30+02:00"},
		{"0 */2 * * *", "Europe/Berlin", "2026-03-28T22:30:00Z", "29T00:00+01:00 29T04:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "25T02:30+02:00 26T02:30+01:00"},
		{"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "25T02:30+02:00 25T02:30+01:00 25T03:30+01:00"},
		{"0 */2 * * *", "Europe/Berlin", "2026-10-24T22:30:00Z", "25T02:00+02:00 25T02:00+01:00 25T04:00+01:00"},

		{"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "08T03:00-04:00 09T02:30-04:00"},
		{"15 * * * *", "America/New_York", "2026-03-08T06:00:00Z", "08T01:15-05:00 08T03:15-04:00"},
		{"30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "01T01:30-04:00 02T01:30-05:00"},
		{"15 * * * *", "America/New_York", "2026-11-01T05:00:00Z", "01T01:15-04:00 01T01:15-05:00 01T02:15-05:00"},

		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "04T02:30+11:00 05T02:15+11:00"},
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-10-03T15:10:00Z", "04T01:45+10:30 04T02:30+11:00 04T02:45+11:00"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "05T01:45+11:00 06T01:45+10:30"},
		{"45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", "05T01:45+11:00 05T01:45+10:30 05T02:45+10:30"},

		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "04T01:00-02:00 05T00:00-02:00"},
		{"@daily", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "18T00:00-03:00 19T00:00-03:00"},
		{"30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "17T23:30-02:00 18T23:30-03:00"},
		{"30 * * * *", "America/Sao_Paulo", "2018-02-18T00:45:00Z", "17T23:30-02:00 17T23:30-03:00 18T00:30-03:00"},

		{"0 3 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "29T03:00-10:00 31T00:00+14:00 31T03:00+14:00"},
		{"0 3 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "31T00:00+14:00 30T03:00+14:00"},
		{"0 * 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "30T00:00+14:00"},
		{"0 0 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "31T00:00+14:00 01T00:00+14:00"},
		{"0 12 * * *", "Pacific/Kwajalein", "1993-08-20T00:00:00-12:00", "20T12:00-12:00 22T00:00+12:00 22T12:00+12:00"},

		{"30 0 1 * *", "Asia/Kathmandu", "2026-01-15T00:00:00Z", "01T00:30+05:45"},
	} {
		require.Equal(t, c.want, steps(t, c.expression, c.zone, c.after, len(strings.Fields(c.want))), "%s %s", c.expression, c.zone)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	const start = "2026-01-01T00:00:00Z" // a Thursday
	for expression, want := range map[string]string{
		"0 0 13 * fri":     "02 09 13 16", // both are given: either
		"0 0 13 * *":       "13 13 13 13",
		"0 0 * * Sun":      "04 11 18 25",
		"0 0 * * 7":        "04 11 18 25",
		"0 0 * * 5-7":      "02 03 04 09",
		"0 0 * * SAT-SUN":  "03 04 10 11",
		"0 0 */10 * *":     "11 21 31 01",
		"0 0 29 2 *":       "29 29 29 29",
		"0 0 31 jan-mar *": "31 31 31 31",
		"0 0 1-7/3 * *":    "04 07 01 04",
		"@monthly":         "01 01 01 01",
		"@Weekly":          "04 11 18 25",
		"@yearly":          "01 01 01 01",
	} {
		times, at := parse(t, expression, ""), moment(t, start)
		var got []string
		for range 4 {
			next, found := times.Next(at)
			require.True(t, found, expression)
			got = append(got, next.Format("02"))
			at = next
		}
		require.Equal(t, want, strings.Join(got, " "), expression)
	}
}

func TestBadExpressions(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"":                  "has 0 fields; write five",
		"* * * *":           "has 4 fields; write five",
		"0 0 0 * * *":       "has 6 fields; write five",
		"60 * * * *":        `minute: "60" is not a number from 0 to 59, * or a range`,
		"* 24 * * *":        `hour: "24" is not a number from 0 to 23`,
		"* * 0 * *":         `day of month: "0" is not a number from 1 to 31`,
		"* * * 13 *":        `month: "13" is not a number from 1 to 12, a name such as jan`,
		"* * * * 8":         `weekday: "8" is not a number from 0 to 7, a name such as sun`,
		"* * * * L":         `weekday: "L" is not a number`,
		"* * ? * *":         `day of month: "?" is not a number`,
		"5/10 * * * *":      `"5/10": a step needs a range; write 5-59/10, or */10`,
		"*/0 * * * *":       `the step after / is a number from 1 to 59`,
		"*/x * * * *":       `the step after / is a number from 1 to 59`,
		"* 22-2 * * *":      `"22-2": the range runs backward; write 22-23,0-2`,
		"1,,2 * * * *":      `"" is not a number`,
		"+1 * * * *":        `"+1" is not a number`,
		"1-2-3 * * * *":     `"2-3" is not a number`,
		"0 0 30 2 *":        "never fires",
		"0 0 31 4,6,9,11 *": "never fires",
		"@every 5m":         `"@every 5m" is not known; write five fields, or one of @hourly`,
		"@reboot":           `"@reboot" is not known`,
		"60 24 0 13 8":      "weekday", // all of them are reported
	} {
		_, err := cron.Parse(expression, time.UTC)
		require.ErrorContains(t, err, want, "%q", expression)
	}
}

func TestZones(t *testing.T) {
	t.Parallel()
	zones := cron.NewZones()
	for _, name := range []string{"", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "EST5EDT"} {
		first, err := zones.Load(name)
		require.NoError(t, err, name)
		again, err := zones.Load(name)
		require.NoError(t, err)
		require.Same(t, first, again)
	}
	for _, name := range []string{"Local", "Europe/Berln", "CEST", "+02:00", "../../etc/passwd", "Europe/"} {
		_, err := zones.Load(name)
		require.ErrorContains(t, err, "is not known; write a name of the IANA database", name)
	}
}

func TestEveryAndAt(t *testing.T) {
	t.Parallel()
	anchor := moment(t, "2026-01-01T00:00:00Z")
	every := cron.Every(90*time.Second, anchor)
	next, found := every.Next(anchor.Add(-time.Hour))
	require.True(t, found)
	require.Equal(t, anchor.Add(90*time.Second), next)
	next, _ = every.Next(anchor.Add(90 * time.Second))
	require.Equal(t, anchor.Add(180*time.Second), next)
	require.EqualValues(t, 40, every.Count(anchor, anchor.Add(time.Hour)))
	newest, found := every.Newest(anchor, anchor.Add(time.Hour-time.Second))
	require.True(t, found)
	require.Equal(t, anchor.Add(time.Hour-90*time.Second), newest)
	_, found = every.Newest(anchor.Add(90*time.Second), anchor.Add(179*time.Second))
	require.False(t, found)

	at := cron.At(anchor.Add(time.Millisecond))
	next, found = at.Next(anchor)
	require.True(t, found)
	require.Equal(t, anchor.Add(time.Second), next, "rounded up")
	_, found = at.Next(next)
	require.False(t, found)
	require.EqualValues(t, 1, at.Count(anchor, next))
	require.EqualValues(t, 0, at.Count(next, next.Add(time.Hour)))
	newest, found = at.Newest(anchor, next)
	require.True(t, found)
	require.Equal(t, next, newest)

	var none cron.Times
	_, found = none.Next(anchor)
	require.False(t, found)
}

// reference lists the ticks of a minute, an hour and a day between two times by looking at each minute.
type reference struct {
	minutes, hours, days []int
	elapsed              bool
}

func (r *reference) ticks(zone *time.Location, from, to time.Time) (out []time.Time) {
	type local struct {
		year        int
		month       time.Month
		day, h, min int
	}
	at := func(t time.Time) local {
		t = t.In(zone)
		return local{t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute()}
	}
	before := func(a, b local) bool {
		x := time.Date(a.year, a.month, a.day, a.h, a.min, 0, 0, time.UTC)
		return x.Before(time.Date(b.year, b.month, b.day, b.h, b.min, 0, 0, time.UTC))
	}
	wants := func(l local) bool {
		return slices.Contains(r.minutes, l.min) && slices.Contains(r.hours, l.h) && slices.Contains(r.days, l.day)
	}
	seen := map[local]bool{}
	last := at(from.Add(-48 * time.Hour))
	for t := from.Add(-48 * time.Hour); !t.After(to); t = t.Add(time.Minute) {
		now := at(t)
		due := wants(now) && (r.elapsed || !seen[now])
		if !r.elapsed { // what the clocks have jumped over
			for gap := time.Date(last.year, last.month, last.day, last.h, last.min+1, 0, 0, time.UTC); ; gap = gap.Add(time.Minute) {
				g := local{gap.Year(), gap.Month(), gap.Day(), gap.Hour(), gap.Minute()}
				if !before(g, now) {
					break
				}
				due = due || wants(g) && !seen[g]
				seen[g] = true
			}
		}
		seen[now], last = true, now
		if due && t.After(from) {
			out = append(out, t.UTC())
		}
	}
	return out
}

// TestAgainstEachMinute compares with a reference that looks at each minute, around changes of the clock in many zones.
func TestAgainstEachMinute(t *testing.T) {
	t.Parallel()
	changes := []struct{ zone, at string }{
		{"Europe/Berlin", "2026-03-29T01:00:00Z"},
		{"Europe/Berlin", "2026-10-25T01:00:00Z"},
		{"America/New_York", "2026-03-08T07:00:00Z"},
		{"America/New_York", "2026-11-01T06:00:00Z"},
		{"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
		{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"},
		{"America/Sao_Paulo", "2018-11-04T03:00:00Z"},
		{"America/Sao_Paulo", "2018-02-18T02:00:00Z"},
		{"Pacific/Apia", "2011-12-30T10:00:00Z"},
		{"America/St_Johns", "2007-11-04T02:31:00Z"},
		{"Africa/Cairo", "2026-04-23T22:00:00Z"},
		{"Africa/Casablanca", "2026-02-15T02:00:00Z"},
		{"Antarctica/Troll", "2026-03-29T01:00:00Z"},
		{"UTC", "2026-06-01T00:00:00Z"},
	}
	zones := cron.NewZones()
	rapid.Check(t, func(rt *rapid.T) {
		c := rapid.SampledFrom(changes).Draw(rt, "change")
		location, err := zones.Load(c.zone)
		require.NoError(rt, err)
		change := moment(rt, c.at)
		numbers := func(low, high int, label string) []int {
			return rapid.SliceOfNDistinct(rapid.IntRange(low, high), 1, 4, rapid.ID[int]).Draw(rt, label)
		}
		r := reference{minutes: numbers(0, 59, "minutes"), hours: numbers(0, 5, "hours"), elapsed: rapid.Bool().Draw(rt, "elapsed")}
		if rapid.Bool().Draw(rt, "late") {
			r.hours = append(r.hours, 22, 23)
		}
		for d := 1; d <= 31; d++ {
			r.days = append(r.days, d)
		}
		days := "*"
		if rapid.Bool().Draw(rt, "some days") {
			r.days = numbers(1, 31, "days")
			days = list(r.days)
		}
		hours := list(r.hours)
		if r.elapsed { // a step makes it so
			hours += "," + fmt.Sprintf("%d-%d/1", r.hours[0], r.hours[0])
		}
		times, err := cron.Parse(list(r.minutes)+" "+hours+" "+days+" * *", location)
		require.NoError(rt, err)
		from := change.Add(-time.Duration(rapid.IntRange(0, 60*36).Draw(rt, "before")) * time.Minute)
		to := change.Add(time.Duration(rapid.IntRange(0, 60*36).Draw(rt, "after")) * time.Minute)
		want := r.ticks(location, from, to)
		var got []time.Time
		for at := from; ; {
			next, found := times.Next(at)
			if !found || next.After(to) {
				break
			}
			got = append(got, next)
			at = next
		}
		require.Equal(rt, want, got)
		require.EqualValues(rt, len(want), times.Count(from, to))
		newest, found := times.Newest(from, to)
		require.Equal(rt, len(want) > 0, found)
		if found {
			require.Equal(rt, want[len(want)-1], newest)
		}
	})
}

func list(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = fmt.Sprint(n)
	}
	return strings.Join(texts, ",")
}

// TestCountOverYears: a long time without runners is counted in whole days.
func TestCountOverYears(t *testing.T) {
	t.Parallel()
	times := parse(t, "* * * * *", "Europe/Berlin")
	from := moment(t, "2026-01-01T00:00:00Z")
	started := time.Now()
	require.EqualValues(t, 5*365*24*60+24*60, times.Count(from, from.AddDate(5, 0, 0)))
	require.Less(t, time.Since(started), 5*time.Second)
}

func BenchmarkNext(b *testing.B) {
	for _, expression := range []string{"*/5 * * * *", "30 2 * * *", "0 0 29 2 *"} {
		b.Run(expression, func(b *testing.B) {
			times := parse(b, expression, "Europe/Berlin")
			at := moment(b, "2026-03-28T12:00:00Z")
			for b.Loop() {
				_, _ = times.Next(at)
			}
		})
	}
}
