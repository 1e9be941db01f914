// Package ui is the operator's page: a web page of a fleet, made on the server, which reads what runners and streams report through a
// NATS connection of its own. It cannot do what that connection's user may not do. It is read-only unless it is started with actions.
package ui
