package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain returns the value of an environment variable without the line end behind it. A character that nobody sees is an
// error, which does not repeat the value.
func Plain(value string) (string, error) { return plain(value) }

// plain returns a text without the line end behind it, which editors and YAML's blocks add. Any other character that
// nobody sees is an error: it was hardly meant, and a password, a path or a URL with it is another one.
func plain(text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if !utf8.ValidString(text) {
		return "", errors.New("it is not UTF-8; write it anew")
	}
	for _, r := range text {
		switch {
		case r == '\r':
			return "", errors.New("it has a carriage return (U+000D), as editors on Windows write it; remove it")
		case r == '\uFEFF':
			return "", errors.New("it has a byte order mark (U+FEFF); save it without one")
		case r == '\n':
			return "", errors.New("it has more than one line; write one")
		case r != ' ' && (unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r)):
			return "", fmt.Errorf("it has a character that is not seen (%U); remove it", r)
		}
	}
	if text != strings.TrimSpace(text) {
		return "", errors.New("it begins or ends with a blank; remove it")
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
		return "", errors.New("it is in quotes, which are a part of it here; remove them")
	}
	return text, nil
}
