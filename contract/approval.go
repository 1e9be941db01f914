package contract

// MaxDryRunID bounds the id of a dry run, bytes, so that the id of its approval is one that a publisher may choose.
const MaxDryRunID = 90

// ApprovalID returns the id that the approval of a dry run must have: so a dry run has at most one approval.
func ApprovalID(dryRun string) string { return dryRun + "_approved" }
