package mcp_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/mcp"
)

// Promise: the user is who logs in, never a secret.
func TestUsers(t *testing.T) {
	t.Parallel()
	url := bustest.Server(t).ClientURL()
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	keyed := bustest.Server(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }).ClientURL()
	jwt := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+public+`","name":"agent"}`)) + ".x"
	for name, c := range map[string]struct {
		url    string
		option nats.Option
		user   string
	}{
		"name":             {url, nats.UserInfo("agent", "s3cr3t"), "agent"},
		"callback":         {url, nats.UserInfoHandler(func() (string, string) { return "agent", "s3cr3t" }), "agent"},
		"URL":              {strings.Replace(url, "nats://", "nats://agent:s3cr3t@", 1), nats.Name(""), "agent"},
		"token":            {url, nats.Token("s3cr3t"), ""},
		"URL with a token": {strings.Replace(url, "nats://", "nats://s3cr3t@", 1), nats.Name(""), ""},
		"nkey":             {keyed, nats.Nkey(public, pair.Sign), public},
		"credentials":      {url, nats.UserJWT(func() (string, error) { return jwt, nil }, pair.Sign), public},
		"none":             {url, nats.Name(""), ""},
	} {
		nc, err := nats.Connect(c.url, c.option)
		require.NoError(t, err, name)
		user, err := mcp.UserOf(nc)
		nc.Close()
		require.NoError(t, err, name)
		require.Equal(t, c.user, user, name)
	}
	nc, err := nats.Connect(url, nats.UserJWT(func() (string, error) { return "s3cr3t", nil }, pair.Sign))
	require.NoError(t, err)
	defer nc.Close()
	_, err = mcp.UserOf(nc)
	require.ErrorContains(t, err, "name no user")
	require.NotContains(t, err.Error(), "s3cr3t")
}

// Promise: a statement that cannot be a tool is left out with the reason, and breaks no other.
func TestStatementsThatAreNoTools(t *testing.T) {
	t.Parallel()
	for schema, says := range map[string]string{
		`[]`: "cannot be read", `{"type":"array"}`: "not that of an object", `{"type":"object","properties":{"request_id":{}}}`: "give that another name in the catalog",
		`{"type":"object","properties":{"a":{"x-mcp-header":1}}}`: "x-mcp-header",
	} {
		_, err := mcp.ToolOf("shop", &contract.CallInfo{Name: "x", Schema: json.RawMessage(schema)})
		require.ErrorContains(t, err, says, schema)
	}
	tool, err := mcp.ToolOf("shop", &contract.CallInfo{
		Name: "x", Description: strings.Repeat("ä", 5000), Effect: contract.ReadOnly, Schema: json.RawMessage(`{"type":"object","additionalProperties":false}`),
	})
	require.NoError(t, err)
	require.Less(t, len(tool.Description), 4500)
	require.Contains(t, tool.Description, "changes nothing")
}

// Promise: what does not show is escaped, and JSON stays the same value.
func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"plain äöü 😀\n"`: `"plain äöü 😀\n"`, "\"a\u200bb\"": `"a\u200bb"`, "\"\u202e\"": `"\u202e"`, "\"\U000e0041\"": `"\udb40\udc41"`,
		"\"\ufe0f\U000e0100\"": `"\ufe0f\udb40\udd00"`, "\"\u2028\"": `"\u2028"`, "\"\xff\"": `"\ufffd"`, "\"\ufffd\"": "\"\ufffd\"",
	} {
		got := mcp.Visible([]byte(text))
		require.Equal(t, want, string(got))
		var before, after string
		require.NoError(t, json.Unmarshal([]byte(text), &before))
		require.NoError(t, json.Unmarshal(got, &after))
		require.Equal(t, before, after)
	}
}

// The permissions of the tests are those of the page.
func TestPermissionsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	require.NoError(t, err)
	for _, subject := range []string{`"dbrunner.api.calls.shop", "dbrunner.api.run.shop.call.pay"`, `"dbrunner.api.cancel.shop.*"`, `["_INBOX.agent.>"]`} {
		require.Contains(t, string(page), subject)
	}
}
