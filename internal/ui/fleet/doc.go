// Package fleet reads what runners and streams report about a fleet, for the operator's page. It reads only when it is asked, and what
// is new since then.
package fleet
