// Package archtest guards the house: which package may import which, that each states what it owns, and a few habits
// that a linter does not know. It has tests only, and reads the source of the whole module without building it.
//
// A new package needs a line in its table of arrows: that is where its place in the house is decided.
package archtest
