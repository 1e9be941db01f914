// Package dbtest is the conformance suite that every engine passes by one call, and finds or starts the real
// servers that the suite runs against. It is for tests only: production code never imports it.
//
//	func TestConformance(t *testing.T) {
//		dbtest.Run(t, dbtest.Harness{Options: …, Open: …, SQL: …})
//	}
//
// The suite is written once against db.Database. What differs between engines (the text of a slow query, the
// JSON of a value) is data of the Harness; what an engine cannot do at all is a flag of its Features.
package dbtest
