// Package status reports the state of a runner and its databases: in heartbeats, by readiness and in metrics. It checks the
// databases in the background.
package status
