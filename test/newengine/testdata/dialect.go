package dialect

import "strconv"

// Toy returns how the toy engine's text is read: GET :key and PUT :key :value.
func Toy() *Dialect {
	return &Dialect{
		QuestionMarks: true,
		MaxParams:     2,
		Placeholder:   func(dst []byte, n int) []byte { return strconv.AppendInt(append(dst, '?'), int64(n), 10) },
		ReadOnlyFirst: words("GET"),
		Kind:          func(string) ColumnType { return ColumnType{} },
		Cache:         NewCache(shapes),
	}
}
