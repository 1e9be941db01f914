package mcp

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible escapes what JSON text has of characters that do not show: controls, changes of direction, tags, selectors. A reader of the
// JSON gets the same values; a reader of the text sees that there is something.
func visible(encoded []byte) []byte {
	out := make([]byte, 0, len(encoded))
	for len(encoded) > 0 {
		r, size := utf8.DecodeRune(encoded)
		switch {
		case r < utf8.RuneSelf || shows(r) && (r != utf8.RuneError || size > 1):
			out = append(out, encoded[:size]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		encoded = encoded[size:]
	}
	return out
}

func shows(r rune) bool { return unicode.IsGraphic(r) && !unicode.Is(unicode.Variation_Selector, r) }

// clip returns a text without characters that do not show, at most so many bytes of it.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && !shows(r) {
			return -1
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
