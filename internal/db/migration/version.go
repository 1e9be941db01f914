package migration

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is the place of a migration in the order of all.
type Version struct {
	Number int64  // what golang-migrate's table holds; -1: before the first migration
	Label  string // as it is written: "5", "1.2"; "none" before the first migration
}

// None is the version of a database without migrations.
func None() Version { return Version{Number: -1, Label: noneLabel} }

const noneLabel = "none"

// IsNone reports whether the version is that of a database without migrations.
func (v Version) IsNone() bool { return v.Number < 0 }

// The form of dotted versions in a number: up to four parts, the first one at most maxFirst, the others at most
// maxPart. A plain version keeps its own number, unless a folder has dotted ones: then it counts as their first part.
const (
	maxParts  = 4
	maxPart   = 9_999
	maxFirst  = 999_999
	partScale = 10_000
)

// parts are the numbers of a version.
type parts []int64

// parseParts reads the parts of a version that are separated by one of the characters.
func parseParts(text, separators string) (parts, error) {
	var out parts
	for _, field := range strings.FieldsFunc("0"+text, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the version %s is too large: at most 9223372036854775807 (2^63-1)", text)
		}
		out = append(out, n)
	}
	return out, nil
}

// plain is the version of one part.
func (p parts) plain() Version { return Version{Number: p[0], Label: strconv.FormatInt(p[0], 10)} }

// dotted is the version in a folder that has dotted ones.
func (p parts) dotted() (Version, error) {
	label := p.label()
	switch {
	case len(p) > maxParts:
		return Version{}, fmt.Errorf("the version %s has %d parts: at most %d can be ordered", label, len(p), maxParts)
	case p[0] > maxFirst:
		return Version{}, fmt.Errorf("the first part of %s is above %d, where a folder has dotted versions", label, maxFirst)
	}
	number := p[0]
	for i := 1; i < maxParts; i++ {
		number *= partScale
		if i >= len(p) {
			continue
		}
		if p[i] > maxPart {
			return Version{}, fmt.Errorf("part %d of %s is above %d", i+1, label, maxPart)
		}
		number += p[i]
	}
	return Version{Number: number, Label: label}, nil
}

// label writes the parts with dots; zeros at the end mean nothing.
func (p parts) label() string {
	last := len(p)
	for last > 1 && p[last-1] == 0 {
		last--
	}
	fields := make([]string, last)
	for i := range fields {
		fields[i] = strconv.FormatInt(p[i], 10)
	}
	return strings.Join(fields, ".")
}
