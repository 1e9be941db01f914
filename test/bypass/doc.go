// Package bypass holds the engines to a corpus of ways around read-only queries, the catalog and max_affected, taken from public reports:
// each is refused, or changes nothing. The cases are data, with the reason for each.
package bypass
