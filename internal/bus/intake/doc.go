// Package intake is the pull subscription of one lane, which never holds more messages than the worker has free slots. It
// never picks an acknowledgement by itself, with one exception: a message without a free slot is requeued.
//
// Messages are pulled through the documented JetStream API instead of the client library's consume loop: the
// library takes a message with an empty body and a Status header for a control message, and a published
// "Status: 409" ends its loop for good. Here only what carries a $JS.ACK. reply is a job, and all that does is.
package intake
