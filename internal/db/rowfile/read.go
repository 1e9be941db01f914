package rowfile

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that reading a compressed file takes, bytes.
const maxWindow = 64 << 20

// NewReader reads what was compressed. Closing it does not close in.
func NewReader(compression string, in io.Reader) (io.ReadCloser, error) {
	switch compression {
	case None:
		return io.NopCloser(in), nil
	case Zstd:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case Gzip:
		return gzip.NewReader(in)
	default:
		return nil, fmt.Errorf("unknown row compression %q", compression)
	}
}
