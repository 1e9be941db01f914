// Package config owns the settings of a runner: their types with defaults, their loading from a YAML file, the
// environment and secret files, and everything that can be wrong with them. Loading is strict and reports all
// faults together, each with its key and what to write.
//
// It imports nothing of this project and opens nothing but the files that are named to it. It knows no engine,
// kind or effect by itself: the caller hands in their words.
package config
