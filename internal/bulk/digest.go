package bulk

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// digestOpening names the algorithm before an object's sum.
const digestOpening = "SHA-256="

// CanonicalDigest returns a SHA-256 digest as the object store writes it, or "" if the text is none. It takes the sum in
// hexadecimal digits too, alone or after the name of the algorithm, as the nats command, sha256sum and others print it.
func CanonicalDigest(text string) string {
	const name = len("SHA-256")
	sum := text
	switch {
	case len(text) > name && strings.EqualFold(text[:name], "SHA-256") && strings.ContainsRune("=: ", rune(text[name])):
		sum = strings.TrimLeft(text[name+1:], " ")
	case len(text) > name && strings.EqualFold(text[:name], "sha256:"):
		sum = text[name:]
	case len(text) != hex.EncodedLen(sha256.Size):
		return "" // base64 alone is not what anything prints
	}
	decoded, err := hex.DecodeString(sum)
	if err != nil {
		decoded, err = base64.URLEncoding.Strict().DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(sum))
	}
	if err != nil || len(decoded) != sha256.Size {
		return ""
	}
	return digestOpening + base64.URLEncoding.EncodeToString(decoded)
}
