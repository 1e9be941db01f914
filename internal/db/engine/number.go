package engine

import (
	"strconv"
	"strings"
)

// wholeDigits bounds the digits of a number that WholeNumber writes out.
const wholeDigits = 40

// WholeNumber returns a JSON number without fraction and exponent, if it is a whole number that is written with one: 5.0 and
// 5e0 are 5. Any other number it returns as it is.
func WholeNumber(text string) string {
	mark := strings.IndexAny(text, ".eE")
	if mark < 0 {
		return text
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil || shift > wholeDigits || shift < -wholeDigits {
			return text
		}
	}
	digits, point := whole+fraction, len(whole)+shift
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if strings.Trim(digits[point:], "0") != "" || len(digits) > wholeDigits {
		return text
	}
	digits = strings.TrimLeft(digits[:point], "0")
	if digits == "" {
		return "0"
	}
	return sign + digits
}
