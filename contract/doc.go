// Package contract declares the messages that publishers and runners exchange: names, subjects, headers, words and codes,
// and the bodies of results, heartbeats and replies, in both directions. It talks to no server; package client does.
//
// docs/messages.md explains what each key means.
package contract
