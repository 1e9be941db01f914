package postgres

import (
	"bytes"
	"strconv"
	"time"
)

// isInstant reports whether the values of a type are, or hold, times with a zone, which the server prints in the
// session's own.
func isInstant(oid uint32) bool {
	switch oid {
	case oidTimestamptz, oidTimestamptzArray, oidTstzrange, oidTstzrangeArray, oidTstzmultirange, oidTstzmultirangeArray:
		return true
	}
	return false
}

// inUTC rewrites the times in a value's text to UTC: 2026-03-01 13:00:00+01 is 2026-03-01 12:00:00+00. What is no time, an
// infinity or the brackets of a range, stays.
func inUTC(v []byte) []byte {
	if bytes.HasSuffix(v, []byte("+00")) { // a time by itself, as most are
		return v
	}
	out := make([]byte, 0, len(v)+8)
	for i := 0; i < len(v); {
		if end, t, fraction, ok := instantAt(v, i); ok {
			out = appendInstant(out, t, fraction)
			i = end
			continue
		}
		out = append(out, v[i])
		i++
	}
	return out
}

// instant reads along a text.
type instant struct {
	text []byte
	at   int
	ok   bool
}

// instantAt reads a time with its zone as DateStyle ISO prints it.
func instantAt(v []byte, begin int) (end int, t time.Time, fraction []byte, ok bool) {
	if begin > 0 && isDigit(v[begin-1]) || begin >= len(v) || !isDigit(v[begin]) {
		return 0, t, nil, false
	}
	r := instant{text: v, at: begin, ok: true}
	year := r.number(4, 7)
	month := r.after('-')
	day := r.after('-')
	hour := r.after(' ')
	minute := r.after(':')
	second := r.after(':')
	fraction = r.fraction()
	zone := r.zone()
	if !r.ok {
		return 0, t, nil, false
	}
	if bytes.HasPrefix(v[r.at:], []byte(" BC")) {
		r.at += len(" BC")
		year = 1 - year
	}
	t = time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC).Add(-zone)
	return r.at, t, fraction, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// number reads a number of so many digits.
func (r *instant) number(least, most int) int {
	n, digits := 0, 0
	for r.at < len(r.text) && digits < most && isDigit(r.text[r.at]) {
		n = n*10 + int(r.text[r.at]-'0')
		digits++
		r.at++
	}
	r.ok = r.ok && digits >= least
	return n
}

// after reads two digits behind a sign.
func (r *instant) after(sign byte) int {
	if !r.next(sign) {
		r.ok = false
		return 0
	}
	return r.number(2, 2)
}

func (r *instant) next(sign byte) bool {
	if r.at >= len(r.text) || r.text[r.at] != sign {
		return false
	}
	r.at++
	return true
}

func (r *instant) fraction() []byte {
	begin := r.at
	if r.next('.') {
		r.number(1, 6)
	}
	return r.text[begin:r.at]
}

// zone reads an offset of hours, minutes and, in times before zones were, seconds.
func (r *instant) zone() time.Duration {
	east := r.next('+')
	if !east && !r.next('-') {
		r.ok = false
		return 0
	}
	offset := time.Duration(r.number(2, 2)) * time.Hour
	for _, unit := range [...]time.Duration{time.Minute, time.Second} {
		if r.next(':') {
			offset += time.Duration(r.number(2, 2)) * unit
		}
	}
	if !east {
		return -offset
	}
	return offset
}

func appendInstant(dst []byte, t time.Time, fraction []byte) []byte {
	year := t.Year()
	if year < 1 {
		year = 1 - year
	}
	if year < 1000 {
		dst = append(dst, "000"[:4-len(strconv.Itoa(year))]...)
	}
	dst = strconv.AppendInt(dst, int64(year), 10)
	dst = t.AppendFormat(dst, "-01-02 15:04:05")
	dst = append(append(dst, fraction...), "+00"...)
	if t.Year() < 1 {
		dst = append(dst, " BC"...)
	}
	return dst
}
