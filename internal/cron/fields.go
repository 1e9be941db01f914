package cron

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// set is a set of numbers below 64.
type set uint64

func (s set) has(n int) bool { return s>>n&1 == 1 }

func (s set) size() int { return bits.OnesCount64(uint64(s)) }

// fields are the five fields of an expression.
type fields struct {
	minute, hour, day, month, weekday set

	anyDay, anyWeekday bool // the field is *
	elapsed            bool // the hour field has * or a step: ticks follow elapsed time
}

// field describes one of the five fields.
type field struct {
	name     string
	low      int
	high     int
	names    []string // of the numbers from low on
	overflow int      // another number for low; 0: none
}

func fieldsInOrder() [5]field {
	return [5]field{
		{name: "minute", low: 0, high: 59},
		{name: "hour", low: 0, high: 23},
		{name: "day of month", low: 1, high: 31},
		{name: "month", low: 1, high: 12, names: strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")},
		{name: "weekday", low: 0, high: 6, names: strings.Fields("sun mon tue wed thu fri sat"), overflow: 7},
	}
}

// short returns the five fields that a word such as @daily stands for.
func short(word string) (string, bool) {
	switch strings.ToLower(word) {
	case "@yearly", "@annually":
		return "0 0 1 1 *", true
	case "@monthly":
		return "0 0 1 * *", true
	case "@weekly":
		return "0 0 * * 0", true
	case "@daily", "@midnight":
		return "0 0 * * *", true
	case "@hourly":
		return "0 * * * *", true
	}
	return "", false
}

// parse reads an expression.
func parse(expression string) (*fields, error) {
	if strings.HasPrefix(expression, "@") {
		text, known := short(expression)
		if !known {
			return nil, fmt.Errorf("%q is not known; write five fields, or one of @hourly, @daily, @weekly, @monthly, @yearly", clip(expression))
		}
		expression = text
	}
	texts := strings.Fields(expression)
	if len(texts) != 5 {
		return nil, fmt.Errorf("has %d fields; write five: minute hour day-of-month month weekday", len(texts))
	}
	var sets [5]set
	var errs []error
	for i, f := range fieldsInOrder() {
		var err error
		if sets[i], err = f.parse(texts[i]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &fields{
		minute: sets[0], hour: sets[1], day: sets[2], month: sets[3], weekday: sets[4],
		anyDay: texts[2] == "*", anyWeekday: texts[4] == "*", elapsed: strings.ContainsAny(texts[1], "*/"),
	}, nil
}

// parse reads one field: parts that are separated by commas.
func (f *field) parse(text string) (set, error) {
	var all set
	for part := range strings.SplitSeq(text, ",") {
		s, err := f.part(part)
		if err != nil {
			return 0, err
		}
		all |= s
	}
	return all, nil
}

// part reads *, a number or a range, with a step or without.
func (f *field) part(text string) (set, error) {
	span, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 || n > f.high {
			return 0, fmt.Errorf("%q: the step after / is a number from 1 to %d", clip(text), f.high)
		}
		step = n
	}
	low, high := f.low, f.high
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		if stepped && !ranged {
			return 0, fmt.Errorf("%q: a step needs a range; write %s-%d/%d, or */%d", clip(text), first, f.high, step, step)
		}
		var err error
		if low, err = f.number(first); err != nil {
			return 0, err
		}
		high = low
		if ranged {
			if high, err = f.number(last); err != nil {
				return 0, err
			}
			if high == f.low && f.overflow > 0 { // the weekday that ends a week
				high = f.overflow
			}
		}
		if low == f.overflow && f.overflow > 0 && high == low {
			low, high = f.low, f.low
		}
	}
	if low > high {
		return 0, fmt.Errorf("%q: the range runs backward; write %d-%d,%d-%d", clip(text), low, f.high, f.low, high)
	}
	var s set
	for n := low; n <= high; n += step {
		if n == f.overflow && f.overflow > 0 {
			s |= 1 << f.low
			continue
		}
		s |= 1 << n
	}
	return s, nil
}

// number reads a number or a name.
func (f *field) number(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.low + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.low || n > max(f.high, f.overflow) || text[0] == '+' || len(text) > 2 {
		return 0, fmt.Errorf("%q is not a number from %d to %d%s", clip(text), f.low, max(f.high, f.overflow), f.orNames())
	}
	return n, nil
}

func (f *field) orNames() string {
	if len(f.names) == 0 {
		return ", * or a range"
	}
	return ", a name such as " + f.names[0] + ", * or a range"
}

// clip shortens a text for an error.
func clip(text string) string {
	const most = 40
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
