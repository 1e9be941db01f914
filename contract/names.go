package contract

import (
	"strconv"
	"strings"
	"time"
)

const (
	maxPublisherID = 100 // bytes of a job id that a publisher chose; runners may add to it
	maxID          = 120 // bytes of any job id
	maxName        = 64  // bytes of a database's, a kind's or an instance's name
)

// DerivedID is the id of a job whose publisher gave none: made from the sequence and the timestamp of its message
// in the jobs stream, which stay the same over redelivery, restart and restore.
func DerivedID(sequence uint64, timestamp time.Time) string {
	buf := make([]byte, 0, 40)
	buf = append(buf, 's')
	buf = strconv.AppendUint(buf, sequence, 10)
	buf = append(buf, '_')
	return string(strconv.AppendInt(buf, timestamp.UnixNano(), 36))
}

// MessageOf returns the sequence and timestamp that an id was derived from; false if it has no such form.
func MessageOf(id string) (sequence uint64, timestamp time.Time, ok bool) {
	if !IsDerivedID(id) {
		return 0, time.Time{}, false
	}
	number, moment, _ := strings.Cut(id[1:], "_")
	sequence, err := strconv.ParseUint(number, 10, 64)
	nanoseconds, err2 := strconv.ParseInt(moment, 36, 64)
	return sequence, time.Unix(0, nanoseconds).UTC(), err == nil && err2 == nil
}

// ValidID reports whether a publisher may give a job this id: 1 to 100 of [A-Za-z0-9_-], and not in the form of a
// derived id.
func ValidID(id string) bool {
	return validToken(id, maxPublisherID) && !IsDerivedID(id)
}

// ValidName reports whether a name is 1 to 64 of [A-Za-z0-9_-]: the names of databases, kinds and instances.
func ValidName(name string) bool { return validToken(name, maxName) }

// ValidQueue reports whether a queue may have this name: 1 to 64 of [a-z0-9_]. Schedules and named statements follow the same rule.
func ValidQueue(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// IsDerivedID reports whether an id has the form of DerivedID: s, digits, an underscore, base 36 digits.
func IsDerivedID(id string) bool {
	if len(id) < 4 || id[0] != 's' {
		return false
	}
	i := 1
	for i < len(id) && id[i] >= '0' && id[i] <= '9' {
		i++
	}
	if i == 1 || i+1 >= len(id) || id[i] != '_' {
		return false
	}
	for _, c := range []byte(id[i+1:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// ValidResultID reports whether an id can be a job's, one that a runner made included: 1 to 120 of [A-Za-z0-9_-].
func ValidResultID(id string) bool { return validToken(id, maxID) }

func validToken(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range []byte(s) {
		if !tokenByte(c) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
