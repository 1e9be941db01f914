package engine

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// scheme is how a URL starts.
var scheme = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`)

// CheckConnectionString refuses what is no connection string of any engine, but which a driver would read as one and
// connect to another server with: a text in quotes, a URL for another kind of driver, and invisible characters.
// urls are the engine's own beginnings of a URL.
func CheckConnectionString(text string, urls ...string) error {
	if problem := unseen(text); problem != "" {
		return errors.New("the connection string " + problem)
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	if strings.ContainsRune("\"'`“”‘’", first) || strings.Contains(text, "://") && strings.ContainsRune("\"`“”‘’'", last) {
		return errors.New("the connection string is in quotes, which are a part of it here; remove them")
	}
	m := scheme.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	for _, own := range urls {
		if strings.HasPrefix(text, own) {
			return nil
		}
	}
	if strings.EqualFold(m[1], "jdbc") {
		return errors.New("the connection string starts with jdbc:, which only Java drivers accept; write the engine's own form")
	}
	return fmt.Errorf("the connection string is a URL of another kind; it may begin with %s", strings.Join(urls, " or "))
}

// unseen returns an invisible character of a text; empty: none.
func unseen(text string) string {
	if !utf8.ValidString(text) {
		return "is not UTF-8; write it again"
	}
	for _, r := range text {
		switch {
		case r == '\r':
			return "has a carriage return (U+000D), as editors on Windows write it; remove it"
		case r == '\uFEFF':
			return "has a byte order mark (U+FEFF); save it without one"
		case r != ' ' && (unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)):
			return fmt.Sprintf("has an invisible character (%U); remove it", r)
		}
	}
	if text != strings.TrimSpace(text) {
		return "starts or ends with a blank; remove it"
	}
	return ""
}

// NoConnectionString reports that there is none, and of which form it is.
func NoConnectionString(form string) error {
	return errors.New("the connection string is missing: " + form)
}

// UnreadConnectionString reports that a driver cannot read one, and of which form it is. The driver's text quotes parts of it.
func UnreadConnectionString(form string) error {
	return errors.New("the connection string cannot be read: " + form)
}

// ParseSwitches reads settings that are true or false.
func ParseSwitches(given map[string]string, known map[string]*bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		target, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("unknown setting %q: known are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
			continue
		}
		value, err := strconv.ParseBool(given[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("setting %s must be true or false", name))
			continue
		}
		*target = value
	}
	return errors.Join(errs...)
}

// PoolNotMade reports that a library refuses the pool's limits.
func PoolNotMade(database string) error {
	return fmt.Errorf("open %s: the pool cannot be made: check its limits", database)
}
