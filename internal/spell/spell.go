// Package spell finds the known word that a mistyped one most likely stands for. It knows no words itself.
package spell

import "strings"

// longest bounds the words that are compared, bytes.
const longest = 128

// Nearest returns the first of the known words that takes the fewest changes to get from word; empty if that takes more than
// most. A change adds, drops or replaces a byte or swaps two neighbors. Case does not count, nor whether a word has - or _.
func Nearest(word string, known []string, most int) string {
	if word == "" || len(word) > longest {
		return ""
	}
	best, least := "", most+1
	for _, k := range known {
		if d := distance(fold(word), fold(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

func fold(word string) string { return strings.ToLower(strings.ReplaceAll(word, "-", "_")) }

// distance counts the changes to get from a to b.
func distance(a, b string) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
