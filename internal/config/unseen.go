package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain returns the value of an environment variable without the line end behind it. An invisible character is an
// error, which does not repeat the value.
func Plain(value string) (string, error) { return plain(value) }

// plain returns a text without the line end behind it, which editors and YAML's blocks add. Any other character that
// is invisible is an error: it was hardly meant, and a password, a path or a URL with it is another one.
func plain(text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if !utf8.ValidString(text) {
		return "", errors.New("not UTF-8; write it again in UTF-8")
	}
	for _, r := range text {
		switch {
		case r == '\r':
			return "", errors.New("contains a carriage return (U+000D), as editors on Windows write; remove it")
		case r == '\uFEFF':
			return "", errors.New("starts with a byte order mark (U+FEFF); save the file without it")
		case r == '\n':
			return "", errors.New("has more than one line; write a single line")
		case r != ' ' && (unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)):
			return "", fmt.Errorf("contains an invisible character (%U); remove it", r)
		}
	}
	if text != strings.TrimSpace(text) {
		return "", errors.New("starts or ends with white space; remove it")
	}
	return text, nil
}

// unquoted is plain for texts that have no quotes of their own: paths, URLs, names and connection strings.
func unquoted(text string) (string, error) {
	text, err := plain(text)
	if err != nil {
		return "", err
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	if strings.ContainsRune("\"'`“”‘’", first) || strings.Contains(text, "://") && strings.ContainsRune("\"`“”‘’'", last) {
		return "", errors.New("is quoted, and the quotes would be part of the value; remove them")
	}
	return text, nil
}
