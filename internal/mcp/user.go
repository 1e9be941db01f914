package mcp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// userOf returns who a connection is to NATS, as the connection itself knows it: a name or a public key. It is empty for a login by
// token or certificate alone, and without one.
func userOf(nc *nats.Conn) (string, error) {
	opts := nc.Opts
	switch {
	case opts.UserJWT != nil:
		token, err := opts.UserJWT()
		if err != nil {
			return "", fmt.Errorf("read the user of the NATS credentials: %w", err)
		}
		return subjectOf(token)
	case opts.Nkey != "":
		return opts.Nkey, nil
	case opts.UserInfo != nil:
		name, _ := opts.UserInfo()
		return name, nil
	case opts.User != "":
		return opts.User, nil
	}
	u, err := url.Parse(nc.ConnectedUrl())
	if err != nil || u.User == nil {
		return "", nil //nolint:nilerr // no URL: no name in it
	}
	if _, named := u.User.Password(); !named {
		return "", nil // a token
	}
	return u.User.Username(), nil
}

// subjectOf returns the public key of the user whose JWT it is. The server has verified it.
func subjectOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	var claims struct {
		Subject string `json:"sub"`
	}
	if len(parts) == 3 {
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(raw, &claims) // without a subject it is refused below
		}
	}
	if claims.Subject == "" {
		return "", errors.New("the NATS credentials name no user")
	}
	return claims.Subject, nil
}
