package client

// RowsWithin is Rows with another limit for how long nothing may come.
var RowsWithin = rowsWithin
