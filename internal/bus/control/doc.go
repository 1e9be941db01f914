// Package control keeps requests to cancel jobs in a key-value bucket, and reads them.
package control
