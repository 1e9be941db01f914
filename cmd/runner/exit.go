package main

// The exit codes. They are part of the product: the help of the root command lists them.
const (
	exitOK      = 0
	exitFailure = 1   // what was asked for could not be done
	exitJob     = 3   // submit: the job ended failed, rejected, cancelled or expired: it has no effect; cancel: ended already
	exitUnknown = 4   // submit: the job ended unknown: it may have taken effect
	exitTimeout = 5   // submit: no answer in time, the job goes on; cancel: the request is kept
	exitUsage   = 78  // the command line or the configuration is wrong; not 2, with which the Go runtime ends a crash
	exitSignal  = 130 // a second signal ended the process immediately
	exitPipe    = 141 // standard output has no reader any more
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the caller's: a flag, an argument or the configuration.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}
