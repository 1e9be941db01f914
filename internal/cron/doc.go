// Package cron computes when schedules are due: five-field expressions in a time zone, fixed intervals, and single times. Its
// functions are pure; the time zone database is embedded, so that runners of one build agree.
package cron
