// Package catalog reads the named statements that an installation has approved for a database: one folder, one YAML file for
// each statement, and JSON Schemas of their parameters. It runs nothing and knows no server.
package catalog
