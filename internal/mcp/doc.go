// Package mcp is a Model Context Protocol server over standard input and output: the statements of one database's catalog as tools of an
// AI agent. It is a client of NATS with a user of its own and can do nothing that this user may not do; there is no tool for SQL.
package mcp
