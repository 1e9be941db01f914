package cron

import (
	"errors"
	"slices"
	"time"
)

// Horizon is how far ahead a tick is looked for. Every date comes within it: a 29 February at the latest after eight years.
const Horizon = 8 * 366 * 24 * time.Hour

const horizonDays = 8 * 366

// Times are the ticks of a schedule. The zero value has none.
type Times struct {
	fields   *fields // nil: no expression
	zone     *time.Location
	interval time.Duration // 0: none
	anchor   time.Time     // of the interval
	once     time.Time     // zero: no single time
}

// Parse returns the ticks of an expression with five fields (minute, hour, day of month, month, weekday) or a word such as
// @daily, in a time zone. If the hour field is fixed, a local time that does not exist is due at the first moment after the
// gap, and one that exists twice at the first of the two. With * or a step in the hour field, ticks follow elapsed time. If both
// day of month and weekday are given, either matches.
func Parse(expression string, zone *time.Location) (Times, error) {
	f, err := parse(expression)
	if err != nil {
		return Times{}, err
	}
	possible := false
	for d := day(0); d < horizonDays && !possible; d++ { // each combination of date and weekday that comes within eight years
		possible = f.matches(d)
	}
	if !possible {
		return Times{}, errors.New("never fires: none of its months has such a day")
	}
	return Times{fields: f, zone: zone}, nil
}

// Every returns the ticks at whole intervals after an anchor.
func Every(interval time.Duration, anchor time.Time) Times {
	return Times{interval: interval, anchor: anchor}
}

// At returns one tick, rounded up to a second.
func At(t time.Time) Times {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		t = whole.Add(time.Second)
	}
	return Times{once: t.UTC()}
}

// Next returns the first tick after a time; false: there is none within Horizon.
func (t *Times) Next(after time.Time) (time.Time, bool) {
	switch {
	case t.fields != nil:
		return t.nextOfFields(after)
	case t.interval > 0:
		n := int64(1)
		if since := after.Sub(t.anchor); since >= 0 {
			n = int64(since/t.interval) + 1
		}
		return t.anchor.Add(time.Duration(n) * t.interval).UTC(), true
	case t.once.After(after):
		return t.once, true
	}
	return time.Time{}, false
}

// nextOfFields looks day by day. The day before is looked at as well: a local time of it that does not exist may be due today.
func (t *Times) nextOfFields(after time.Time) (time.Time, bool) {
	from := after.Unix()
	for d, last := dayOf(after, t.zone)-1, dayOf(after, t.zone)+horizonDays; d <= last; d++ {
		best, found := t.firstOf(d, from)
		if !found {
			continue
		}
		// Where clocks go back over midnight, the next day has times before the last ones of this day.
		if other, also := t.firstOf(d+1, from); also && other < best {
			best = other
		}
		return time.Unix(best, 0).UTC(), true
	}
	return time.Time{}, false
}

// firstOf returns a day's first tick after a time.
func (t *Times) firstOf(d day, after int64) (best int64, found bool) {
	if !t.fields.matches(d) {
		return 0, false
	}
	all := d.spans(t.zone)
	if regular(all) {
		midnight := int64(d)*secondsPerDay - all[0].offset
		clock, found := t.fields.from(after + 1 - midnight)
		return midnight + clock, found
	}
	for _, tick := range t.fields.appendTicks(nil, d, all) {
		if tick > after && (!found || tick < best) {
			best, found = tick, true
		}
	}
	return best, found
}

// Newest returns the last tick after one time and not after another; false: there is none.
func (t *Times) Newest(after, until time.Time) (time.Time, bool) {
	switch {
	case !until.After(after):
		return time.Time{}, false
	case t.fields != nil:
		return t.newestOfFields(after, until)
	case t.interval > 0:
		n := int64(until.Sub(t.anchor) / t.interval)
		tick := t.anchor.Add(time.Duration(n) * t.interval).UTC()
		return tick, n >= 1 && tick.After(after)
	}
	return t.once, t.once.After(after) && !t.once.After(until)
}

func (t *Times) newestOfFields(after, until time.Time) (time.Time, bool) {
	lowest, limit := after.Unix(), until.Unix()
	for d, last := dayOf(until, t.zone)+1, dayOf(after, t.zone)-1; d >= last; d-- {
		best, found := t.lastOf(d, lowest, limit)
		if !found {
			continue
		}
		if other, also := t.lastOf(d-1, lowest, limit); also && other > best {
			best = other
		}
		return time.Unix(best, 0).UTC(), true
	}
	return time.Time{}, false
}

// lastOf returns a day's last tick after one time and not after another.
func (t *Times) lastOf(d day, after, until int64) (best int64, found bool) {
	if !t.fields.matches(d) {
		return 0, false
	}
	all := d.spans(t.zone)
	if regular(all) {
		midnight := int64(d)*secondsPerDay - all[0].offset
		clock, found := t.fields.until(until - midnight)
		return midnight + clock, found && midnight+clock > after
	}
	for _, tick := range t.fields.appendTicks(nil, d, all) {
		if tick > after && tick <= until && (!found || tick > best) {
			best, found = tick, true
		}
	}
	return best, found
}

// Count returns the number of ticks after one time and not after another.
func (t *Times) Count(after, until time.Time) uint64 {
	switch {
	case !until.After(after):
		return 0
	case t.fields != nil:
		return t.countOfFields(after, until)
	case t.interval > 0:
		upTo := func(moment time.Time) int64 { return max(int64(moment.Sub(t.anchor)/t.interval), 0) }
		return uint64(upTo(until) - upTo(after)) //nolint:gosec // until is later
	}
	if t.once.After(after) && !t.once.After(until) {
		return 1
	}
	return 0
}

// countOfFields counts whole days together, as a time without runners may be long, except where clocks change: two days may share
// a tick there.
func (t *Times) countOfFields(after, until time.Time) (n uint64) {
	from, limit := after.Unix(), until.Unix()
	var change []int64 // ticks of the days around a change of the clocks
	for d, last := dayOf(after, t.zone)-1, dayOf(until, t.zone)+1; d <= last; d++ {
		all := d.spans(t.zone)
		if !regular(all) {
			if t.fields.matches(d) {
				change = t.fields.appendTicks(change, d, all)
			}
			continue
		}
		n += within(change, from, limit)
		change = change[:0]
		if t.fields.matches(d) {
			midnight := int64(d)*secondsPerDay - all[0].offset
			n += t.fields.count(from-midnight, limit-midnight)
		}
	}
	return n + within(change, from, limit)
}

// within counts the different ticks after one time and not after another.
func within(ticks []int64, after, until int64) (n uint64) {
	slices.Sort(ticks)
	for _, tick := range slices.Compact(ticks) {
		if tick > after && tick <= until {
			n++
		}
	}
	return n
}
