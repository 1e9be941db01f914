package engine

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"dbrunner/internal/db"
)

// LinkLost reports whether an error of a driver is an end of its link. What a driver refuses for reasons of its own is not.
func LinkLost(err error) bool {
	for _, end := range [...]error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	_, network := errors.AsType[net.Error](err)
	return network
}

// DriverError is an error that a driver returned without an answer of the server: the link was lost, or the driver itself
// refused what it was asked.
func DriverError(err error) *db.Error {
	if LinkLost(err) {
		return db.Errorf(db.ClassLost, db.CodeConnectionLost, "the connection to the database was lost").Because(err)
	}
	return db.Errorf(db.ClassPermanent, db.CodeDatabase, "the driver of the database refused it or could not read the answer").Because(err)
}
