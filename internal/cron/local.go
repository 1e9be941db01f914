package cron

import (
	"math/bits"
	"time"
)

// secondsPerDay is the length of a day on the calendar.
const secondsPerDay = 24 * 60 * 60

// widest is more than any offset of a time zone from UTC, seconds.
const widest = 26 * 60 * 60

// day is a day on the calendar: days since 1970-01-01.
type day int64

// dayOf returns the local day of a time.
func dayOf(t time.Time, zone *time.Location) day {
	_, offset := t.In(zone).Zone()
	return day(floorDiv(t.Unix()+int64(offset), secondsPerDay))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// date returns month, day of the month and weekday.
func (d day) date() (month time.Month, dayOfMonth int, weekday time.Weekday) {
	t := time.Unix(int64(d)*secondsPerDay, 0).UTC()
	return t.Month(), t.Day(), t.Weekday()
}

// span is a time without a change of the zone's offset. Local seconds count from 1970-01-01 on the local calendar.
type span struct {
	start, end int64 // Unix seconds; end is outside
	offset     int64
}

func (s span) localStart() int64 { return s.start + s.offset }
func (s span) localEnd() int64   { return s.end + s.offset }

// spanStep is how far a span goes at least whose end is not known. No zone has changed its offset twice within it.
const spanStep = 15 * 60

// spans returns the spans that have to do with a local day, in order. Two that follow each other have different offsets.
func (d day) spans(zone *time.Location) []span {
	from, to := int64(d)*secondsPerDay-widest, (int64(d)+1)*secondsPerDay+widest
	var all []span
	for at := from; at < to; {
		t := time.Unix(at, 0).In(zone)
		_, offset := t.Zone()
		end := to
		if _, bound := t.ZoneBounds(); !bound.IsZero() {
			// On the last day of a leap year, Go 1.26 returns an end that is not after the time.
			if end = min(bound.Unix(), to); end <= at {
				end = min(at+spanStep, to)
			}
		}
		if n := len(all); n > 0 && all[n-1].offset == int64(offset) {
			all[n-1].end = end
		} else {
			all = append(all, span{start: at, end: end, offset: int64(offset)})
		}
		at = end
	}
	return all
}

// regular reports whether a day with these spans is like most: each local time of it exists just once.
func regular(all []span) bool { return len(all) == 1 }

// first returns the first time at which the clocks show a local time; if they never do, the first moment after the gap.
func first(all []span, local int64) int64 {
	for _, s := range all {
		switch {
		case local < s.localStart():
			return s.start
		case local < s.localEnd():
			return local - s.offset
		}
	}
	return all[len(all)-1].end // not reached: the spans go beyond the day
}

// appendEvery appends all times at which the clocks show a local time: none, one or two.
func appendEvery(times []int64, all []span, local int64) []int64 {
	for _, s := range all {
		if local >= s.localStart() && local < s.localEnd() {
			times = append(times, local-s.offset)
		}
	}
	return times
}

// matches reports whether a day is one of the expression's.
func (f *fields) matches(d day) bool {
	month, dayOfMonth, weekday := d.date()
	if !f.month.has(int(month)) {
		return false
	}
	byDay, byWeekday := f.day.has(dayOfMonth), f.weekday.has(int(weekday))
	if f.anyDay || f.anyWeekday {
		return byDay && byWeekday
	}
	return byDay || byWeekday
}

// from returns the first time of day, in seconds, that is one of the expression's and not before a time of day; false: there is none.
func (f *fields) from(second int64) (int64, bool) {
	minute := max((second+59)/60, 0)
	for hour := minute / 60; hour < 24; hour++ {
		if !f.hour.has(int(hour)) {
			continue
		}
		if rest := f.minute >> max(minute-hour*60, 0) << max(minute-hour*60, 0); rest != 0 {
			return hour*3600 + int64(bits.TrailingZeros64(uint64(rest)))*60, true
		}
	}
	return 0, false
}

// until returns the last time of day that is one of the expression's and not after a time of day.
func (f *fields) until(second int64) (int64, bool) {
	if second < 0 {
		return 0, false
	}
	minute := min(second/60, 24*60-1)
	for hour := minute / 60; hour >= 0; hour-- {
		if !f.hour.has(int(hour)) {
			continue
		}
		if rest := f.minute & (1<<(min(minute-hour*60, 59)+1) - 1); rest != 0 {
			return hour*3600 + int64(bits.Len64(uint64(rest))-1)*60, true
		}
	}
	return 0, false
}

// count returns how many times of day of the expression's are after one time of day and not after another.
func (f *fields) count(after, until int64) (n uint64) {
	if after < 0 && until >= secondsPerDay-60 {
		return uint64(f.hour.size() * f.minute.size()) //nolint:gosec // at most 1,440
	}
	for clock, found := f.from(after + 1); found && clock <= until; clock, found = f.from(clock + 1) {
		n++
	}
	return n
}

// appendTicks appends the ticks of a day on which clocks may change, in Unix seconds, neither sorted nor without repetition.
func (f *fields) appendTicks(out []int64, d day, all []span) []int64 {
	for hour := range 24 {
		if !f.hour.has(hour) {
			continue
		}
		for minute := range 60 {
			if !f.minute.has(minute) {
				continue
			}
			local := int64(d)*secondsPerDay + int64(hour*60+minute)*60
			if f.elapsed {
				out = appendEvery(out, all, local)
			} else {
				out = append(out, first(all, local))
			}
		}
	}
	return out
}
