package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxSecretBytes bounds a secret file, so that a wrong name does not read a whole disk.
const maxSecretBytes = 64 << 10

// secret sets a secret from its key or from the file that its companion names. What the environment says of
// either goes before what the file says of both.
func (b *binder) secret(field *Secret, written map[string]any, name, path string) {
	at, fileAt := join(path, name), join(path, name+fileSuffix)
	direct, file := written[name], written[name+fileSuffix]
	directEnv, fileEnv := b.faults.origins[at].env != "", b.faults.origins[fileAt].env != ""
	if direct != nil && file != nil && directEnv == fileEnv {
		b.faults.add(at, "both this key and "+name+fileSuffix+" are set; remove one of them")
		return
	}
	switch {
	case direct != nil && (file == nil || directEnv):
		b.secretText(field, direct, at)
	case file != nil:
		b.secretFile(field, file, fileAt)
	}
}

func (b *binder) secretText(field *Secret, value any, path string) {
	s, ok := value.(scalar)
	switch {
	case !ok || !s.is(tagString):
		b.faults.add(path, errSecret.Error())
	case s.Kind == tagString && variable.MatchString(s.Text):
		b.interpolation(path)
	case s.Text == "":
		b.faults.add(path, errEmpty.Error())
	default:
		text, err := secretForm(path)(s.Text)
		if err != nil {
			b.faults.add(path, err.Error())
		}
		*field = Secret{text: text, from: b.source(path)}
	}
}

func (b *binder) secretFile(field *Secret, value any, path string) {
	s, ok := value.(scalar)
	if !ok || !s.is(tagString) || s.Text == "" {
		b.faults.add(path, "write a file name")
		return
	}
	if !b.files && strings.HasPrefix(path, databasesStart) {
		return
	}
	name, err := unquoted(s.Text)
	if err != nil {
		b.faults.add(path, err.Error())
		return
	}
	text, err := readSecret(name)
	if err == nil {
		text, err = secretForm(strings.TrimSuffix(path, fileSuffix))(text)
	}
	if err != nil {
		b.faults.add(path, err.Error())
		return
	}
	*field = Secret{text: text, file: name, from: b.source(path)}
}

// secretForm is what a secret of a key may look like: a password may begin with a quote, a connection string may not.
func secretForm(path string) func(string) (string, error) {
	if strings.HasSuffix(path, "connection_string") {
		return unquoted
	}
	return plain
}

// source names where a value was written.
func (b *binder) source(path string) string {
	if env := b.faults.origins[path].env; env != "" {
		return env
	}
	return path
}

// readSecret reads a file that holds one secret. One line end behind it does not count. The errors do not
// repeat the file's name: a secret may have been written in its place.
func readSecret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fileError(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	switch {
	case err != nil:
		return "", fileError(err)
	case len(text) > maxSecretBytes:
		return "", errors.New("the file is larger than 64 KiB; name one that contains only the secret")
	}
	line, err := plain(string(text))
	if err != nil {
		return "", fmt.Errorf("invalid secret in the file: %w", err)
	}
	if line == "" {
		return "", errors.New("the file is empty; write the secret into it")
	}
	return line, nil
}

// fileError is the reason why a file cannot be read, without its name.
func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("no such file; name one that exists")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("permission denied; let this process read the file, or name another")
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return errors.New("the file cannot be read: " + e.Err.Error())
	}
	return errors.New("the file cannot be read")
}
