// Package schedules reads and writes the records and the states of schedules, each kept in a key-value bucket, and publishes their jobs.
package schedules
