package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/inspect"
	"dbrunner/internal/manager"
)

const connectionsPage = "../../docs/connections.md"

// shown is a block of code on the page and the heading of the chapter that it stands in.
type shown struct{ chapter, language, text string }

// connectionsShown are the blocks of docs/connections.md, with the files that they name in folders of the test's own.
func connectionsShown(t *testing.T) []shown {
	t.Helper()
	page, err := os.ReadFile(connectionsPage)
	require.NoError(t, err)
	text := strings.NewReplacer("/etc/dbrunner/", certificates(t)+"/", "/run/secrets/", secrets(t)+"/").Replace(string(page))
	var blocks []shown
	for _, chapter := range strings.Split(text, "\n## ")[1:] {
		name, body, _ := strings.Cut(chapter, "\n")
		for _, b := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)\n```").FindAllStringSubmatch(body, -1) {
			blocks = append(blocks, shown{name, b[1], b[2]})
		}
	}
	return blocks
}

// TestConnectionsPage has every connection string and every file of the page read as `runner check` reads them: each is
// taken, and none is one that check warns of.
func TestConnectionsPage(t *testing.T) {
	t.Parallel()
	read := map[string]int{}
	for _, b := range connectionsShown(t) {
		switch b.language {
		case "text":
			engine, ok := map[string]string{"PostgreSQL": "postgres", "SQL Server": "sqlserver", "SQLite": "sqlite"}[b.chapter]
			require.True(t, ok, b.chapter)
			for line := range strings.SplitSeq(b.text, "\n") {
				require.Empty(t, connectionFaults(inspected(t, engineFile(engine, line))), line)
				read[engine]++
			}
		case "yaml":
			require.Empty(t, connectionFaults(inspected(t, b.text)), b.text)
			read["files"]++
		default:
			require.Equal(t, "sh", b.language)
		}
	}
	require.Equal(t, map[string]int{"postgres": 11, "sqlserver": 14, "sqlite": 4, "files": 3}, read)
}

// What the page says of sslmode is what check says.
func TestConnectionsPageOnTLS(t *testing.T) {
	t.Parallel()
	for mode, warns := range map[string]bool{
		"verify-full": false, "verify-ca": false, "require": true, "prefer": true, "allow": true, "disable": true,
	} {
		found := connectionFaults(inspected(t, engineFile("postgres", "postgres://runner@db.example/shop?sslmode="+mode)))
		require.Equal(t, warns, len(found) > 0, mode)
	}
	require.Empty(t, connectionFaults(inspected(t, engineFile("postgres", "postgres://runner@127.0.0.1/shop?sslmode=disable"))))
	authority := filepath.Join(certificates(t), "ca.pem")
	require.Empty(t, connectionFaults(inspected(t, engineFile("postgres", "postgres://runner@db.example/shop?sslmode=require&sslrootcert="+authority))))
}

// And the strings that it lists as refused.
func TestConnectionsPageOnRefusals(t *testing.T) {
	t.Parallel()
	for line, engine := range map[string]string{
		":memory:": "sqlite", "file:shop.db?mode=ro": "sqlite", "file:shop.db?_pragma=foreign_keys(1)": "sqlite",
		"sqlserver://runner@db.example?encrypt=true": "sqlserver", "sqlserver://runner@db.example?database=shop": "sqlserver",
		"postgres://runner@db.example/shop?sslmode=sometimes": "postgres",
	} {
		_, err := check(t, engineFile(engine, line))
		require.Error(t, err, line)
		require.NotContains(t, err.Error(), "runner@", line)
	}
}

func engineFile(engine, connection string) string {
	return fmt.Sprintf("databases:\n  shop:\n    type: %s\n    connection_string: '%s'\n", engine, strings.ReplaceAll(connection, "'", "''"))
}

// check does what `runner check` does with a file.
func check(t *testing.T, text string) (*inspect.Inspection, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	cfg, err := config.Load(config.Options{File: file, Words: manager.Words()})
	if err != nil {
		return nil, err
	}
	inspector, err := inspect.New(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(t, inspector.Close()) }()
	return inspector.Inspect(cfg), nil
}

func inspected(t *testing.T, text string) *inspect.Inspection {
	t.Helper()
	found, err := check(t, text)
	require.NoError(t, err, text)
	return found
}

// connectionFaults are the findings that are about how a database is reached.
func connectionFaults(found *inspect.Inspection) []inspect.Finding {
	var out []inspect.Finding
	for _, f := range found.Findings {
		if f.About != "nats" && f.Part != "migrations" && f.Grade != inspect.GradeOK {
			out = append(out, f)
		}
	}
	return out
}

// secrets is a folder with the file of the page's example.
func secrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "shop", "postgres://runner@db.example/shop?sslmode=verify-full\n")
	return dir
}

// certificates is a folder with the files that connection strings name.
func certificates(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"ca.pem":     {Type: "CERTIFICATE", Bytes: certificate},
		"runner.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"server.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"runner.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		write(t, dir, name, string(pem.EncodeToMemory(block)))
	}
	return dir
}
