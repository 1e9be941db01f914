package mcp

// For tests of the package from outside.
var (
	UserOf  = userOf
	ToolOf  = toolOf
	Visible = visible
)
