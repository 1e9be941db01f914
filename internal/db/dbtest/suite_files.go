package dbtest

import (
	"encoding/json"
	"io"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/rowfile"
)

// lossy are values that Parquet's types cannot hold: moments out of its range, more digits than microseconds, no text.
var lossy = regexp.MustCompile(`infinity| BC"|\.[0-9]{6}[1-9]|text_base64`)

// testFiles writes every value of the engine in every format.
func testFiles(t *testing.T, h Harness) {
	b := setup(t, h)
	for _, c := range h.Values {
		t.Run(c.Name, func(t *testing.T) {
			set, err := b.db.Read(t.Context(), call(), b.compile(c.SQL), arrays())
			require.NoError(t, err)
			var rows []json.RawMessage
			require.NoError(t, json.Unmarshal(set.Rows, &rows))
			for _, format := range rowfile.Formats() {
				w, err := rowfile.New(rowfile.Options{Format: format, Compression: rowfile.None, Kind: b.db.Dialect().Kind}, set.Columns, io.Discard)
				require.NoError(t, err)
				err = w.Row(rows[0])
				if format == rowfile.Parquet && err != nil {
					require.Regexp(t, lossy, c.JSON)
					requireError(t, err, db.ClassPermanent, contract.CodeData)
					continue
				}
				require.NoError(t, err)
				require.NoError(t, w.Close())
			}
		})
	}
}
