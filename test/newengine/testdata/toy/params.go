package toy

import "dbrunner/internal/db/dialect"

// checkValue takes texts alone.
func checkValue(v dialect.Value) string {
	if v.Kind != dialect.String {
		return "a map holds texts only"
	}
	return ""
}
