package jsontext

import (
	"encoding/base64"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. What is written is valid JSON whatever s holds; a byte that is
// not UTF-8 becomes U+FFFD. Where that could happen, AppendJSONText reports it.
func AppendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst, _ = AppendText(dst, s)
	return dst
}

// AppendText appends s as a JSON string and reports whether all of s is there: false means that bytes
// which are not UTF-8 were replaced by U+FFFD.
func AppendText[T ~string | ~[]byte](dst []byte, s T) (out []byte, lossless bool) {
	dst = append(dst, '"')
	lossless = true
	for {
		n := verbatim(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"'), lossless
		}
		if c := s[n]; c < utf8.RuneSelf {
			dst = appendEscape(dst, c)
		} else {
			dst, lossless = append(dst, `\ufffd`...), false
		}
		s = s[n+1:]
	}
}

// verbatim is the length of the longest prefix that stands in a JSON string as it is.
func verbatim[T ~string | ~[]byte](s T) int {
	i := 0
	for i < len(s) {
		if i+8 <= len(s) {
			special := specialBytes(s, i)
			if special == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(special) / 8
		}
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			n := runeLen(s[i:])
			if n == 0 {
				return i
			}
			i += n
		case c < ' ' || c == '"' || c == '\\':
			return i
		default:
			i++
		}
	}
	return i
}

// specialBytes looks at the eight bytes from i together: the lowest top bit in what it returns marks the first
// byte that is no plain ASCII or needs an escape; zero means that there is none. A byte below n borrows into
// its top bit when n is subtracted, a byte equal to c is zero after xor with c, a byte above 127 has its top bit
// set. A borrow may mark the bytes above a marked one too, never hide one.
func specialBytes[T ~string | ~[]byte](s T, i int) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	s = s[i : i+8]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	quote, slash := w^(ones*'"'), w^(ones*'\\')
	return (w | (w - ones*' ') | (quote - ones) | (slash - ones)) & tops
}

// runeLen is the length of the UTF-8 sequence beyond ASCII that s starts with, 0 if it is none: too long, half
// of a surrogate pair, above U+10FFFF or cut off. (The functions of unicode/utf8 take a string or bytes, not either.)
func runeLen[T ~string | ~[]byte](s T) int {
	low, high, n := byte(0x80), byte(0xBF), 0 // the bounds of the second byte, and the length
	switch c := s[0]; {
	case c < 0xC2 || c > 0xF4:
		return 0
	case c < 0xE0:
		n = 2
	case c < 0xF0:
		n = 3
	default:
		n = 4
	}
	switch s[0] {
	case 0xE0:
		low = 0xA0
	case 0xED:
		high = 0x9F
	case 0xF0:
		low = 0x90
	case 0xF4:
		high = 0x8F
	}
	if len(s) < n || s[1] < low || s[1] > high {
		return 0
	}
	for i := 2; i < n; i++ {
		if s[i]&0xC0 != 0x80 {
			return 0
		}
	}
	return n
}

func appendEscape(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
	}
}

// AppendBase64 appends b as a JSON string in standard base64 with padding.
func AppendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}
