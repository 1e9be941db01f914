// Package crash kills runner processes at every step of a job's way, cuts the link to the database around COMMIT, and
// restarts the servers under load, on real parts: runner processes built with crash points, a NATS server, PostgreSQL.
// After each fault it looks at the stored results, the dead letters and the tables.
package crash
