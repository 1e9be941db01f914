package config

import (
	"fmt"
	"io"
)

const redacted = "[redacted]"

// Secret is a text that only Reveal returns: printing, logging and encoding
// give a mark in its place. The zero Secret is empty.
type Secret struct {
	text string
	file string // that it was read from; empty: none
	from string // the key or the environment variable that it was written with; empty: neither
}

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text: text} }

// Reveal returns the text itself. Hand it to what needs it and to nothing else.
func (s Secret) Reveal() string { return s.text }

// Current returns the text as it is now: one that came from a file is read again, as the file may have been written
// again since. Where the file cannot be read, or holds no secret, it is the text that was read at the start.
func (s Secret) Current() string {
	if s.file != "" {
		if text, err := readSecret(s.file); err == nil {
			return text
		}
	}
	return s.text
}

// Source names the key or the environment variable that the secret, or its file, was written with; empty: neither.
func (s Secret) Source() string { return s.from }

// Empty reports whether there is no text.
func (s Secret) Empty() bool { return s.text == "" }

// String returns the mark, or nothing if the secret is empty.
func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return redacted
}

// Format writes the mark for every verb, also for those that do not ask for String, such as %d.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || f.Flag('#') {
		_, _ = fmt.Fprintf(f, "%q", s.String())
		return
	}
	_, _ = io.WriteString(f, s.String())
}

// GoString returns the mark in quotes.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText gives the mark to encoders of text: XML, keys of JSON objects and others.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON gives the mark to JSON, and so to zap's encoding of whole structs.
func (s Secret) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", s.String()), nil }

// MarshalYAML gives the mark to YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
