package clickhouse

import (
	"context"
	"net/http"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// compression of blocks on their way, as the address asks for by ?compress=lz4 or zstd.
// clickhouse-go sees to other kinds, and leaves these to who makes the block.
type compression struct {
	method compress.Method
	level  compress.Level
}

// compressionOf returns nil where blocks are sent as they are, or clickhouse-go
// compresses them.
func compressionOf(c *ch.Compression) *compression {
	switch {
	case c == nil:
		return nil
	case c.Method == ch.CompressionLZ4:
		return &compression{compress.LZ4, compress.Level(max(c.Level, 0))} // #nosec G115 -- a small number
	case c.Method == ch.CompressionZSTD:
		return &compression{compress.ZSTD, compress.Level(max(c.Level, 0))} // #nosec G115 -- a small number
	}
	return nil
}

// packedBytes of a block are compressed at once: ClickHouse's own measure.
const packedBytes = 1 << 20

// pack returns data in ClickHouse's compressed blocks.
func (c *compression) pack(data []byte) (packed []byte, err error) {
	w := compress.NewWriter(c.level, c.method)
	for len(data) > 0 {
		n := min(len(data), packedBytes)
		if err := w.Compress(data[:n]); err != nil {
			return nil, err
		}
		packed, data = append(packed, w.Data...), data[n:]
	}
	return packed, nil
}

type packedKey struct{}

// withPacked marks the insert in ctx as one whose body is packed.
func withPacked(ctx context.Context) context.Context {
	return context.WithValue(ctx, packedKey{}, true)
}

// unpacking asks the server to unpack the bodies that are. As a setting of the query
// it would also go with the question for the version, by which clickhouse-go begins a
// connection.
type unpacking struct{ http.RoundTripper }

func (u unpacking) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Context().Value(packedKey{}) != nil {
		if q := r.URL.Query(); strings.HasPrefix(q.Get("query"), insertInto) {
			r = r.Clone(r.Context())
			q.Set("decompress", "1")
			r.URL.RawQuery = q.Encode()
		}
	}
	return u.RoundTripper.RoundTrip(r)
}
