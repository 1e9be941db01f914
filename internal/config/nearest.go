package config

import "strings"

// nearest returns the known word that a wrong one was probably meant to be; empty if none is near. A difference
// only in case or between - and _ counts as none.
func nearest(word string, known []string) string {
	best, least := "", min(len(word)/3, 3)+1
	for _, k := range known {
		if d := distance(fold(word), fold(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// fold makes words alike that differ only in case or between - and _.
func fold(word string) string { return strings.ToLower(strings.ReplaceAll(word, "-", "_")) }

// distance is the number of bytes to insert, delete or replace that makes b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
