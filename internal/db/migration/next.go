package migration

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxDescription bounds the description in a file's name, bytes.
const maxDescription = 100

// Next returns the names of the file that would be a folder's next one and, where down is wanted, of the one that
// reverts it, in the style of the folder's last one: of golang-migrate, or V and U, which an empty folder or one that is
// not there gets too. The width of the number is kept; where the last version is a time (20261125143000), so is the
// next, now. It creates nothing. Its error is a *FaultsError with what is wrong with the names that there are, why the
// folder cannot be read, or what is wrong with the description.
func Next(fsys fs.FS, description string, down bool, now time.Time) ([]string, error) {
	words, err := fileWords(description)
	if err != nil {
		return nil, err
	}
	l := &loader{fsys: fsys}
	entries, err := l.entries()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l.styles(entries)
	entries = l.number(entries)
	if len(l.faults) > 0 {
		return nil, &FaultsError{Faults: l.faults}
	}
	if len(entries) == 0 {
		return names("V1__"+words+".sql", "U1__"+words+".sql", down), nil
	}
	last := entries[len(entries)-1] // in their order
	digits, err := nextDigits(last, now)
	if err != nil {
		return nil, err
	}
	if last.versioned {
		return names("V"+digits+"__"+words+".sql", "U"+digits+"__"+words+".sql", down), nil
	}
	return names(digits+"_"+words+".up.sql", digits+"_"+words+".down.sql", down), nil
}

func names(applies, reverts string, down bool) []string {
	if down {
		return []string{applies, reverts}
	}
	return []string{applies}
}

// fileWords makes a description what a file can be called on every system.
func fileWords(description string) (string, error) {
	fields := strings.FieldsFunc(strings.ToLower(description), func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	words := strings.Join(fields, "_")
	switch {
	case words == "":
		return "", errors.New(`the description needs a letter or a digit of ASCII: write some words, such as "add queue"`)
	case len(words) > maxDescription:
		return "", fmt.Errorf("the description is too long: at most %d characters", maxDescription)
	}
	return words, nil
}

// timeVersion is how a time is written as a version.
const timeVersion = "20060102150405"

// nextDigits is the version behind that of an entry, written as that one is: the last of its numbers one higher.
func nextDigits(last *entry, now time.Time) (string, error) {
	written := last.digits()
	if next := now.UTC().Format(timeVersion); isTime(written) && next > written {
		return next, nil
	}
	at := strings.LastIndexAny(written, "._") + 1
	n, err := strconv.ParseInt(written[at:], 10, 64)
	if err != nil || n == math.MaxInt64 || len(last.parts) > 1 && n >= maxPart {
		return "", fmt.Errorf("no version follows the one of %s; name the next file by hand", last.name)
	}
	return fmt.Sprintf("%s%0*d", written[:at], len(written)-at, n+1), nil
}

// digits is the version as the file's name writes it.
func (e *entry) digits() string {
	if e.versioned {
		return versioned.FindStringSubmatch(e.name)[2]
	}
	return migrated.FindStringSubmatch(e.name)[1]
}

func isTime(digits string) bool {
	_, err := time.Parse(timeVersion, digits)
	return err == nil && len(digits) == len(timeVersion)
}
