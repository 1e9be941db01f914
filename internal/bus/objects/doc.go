// Package objects keeps rows and parameters that have no room in messages: as objects in the form of the client libraries,
// written once and never replaced.
package objects
