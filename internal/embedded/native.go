package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeEncoder rewrites results in the Native format for clients that ask for a protocol revision. The
// engine writes revision 0; later ones put a header on each block and a byte on each column (ClickHouse's
// Core/ProtocolDefines.h), and where a column ends depends on its type, so columns are read and written anew.
//
// One thing is lost in revision 0: DateTime('Zone') arrives as DateTime. The client gets the right instant in
// the engine's zone, which is UTC.
type nativeEncoder struct {
	revision uint64
	server   column.ServerContext
	buf      chproto.Buffer
}

// encode returns the blocks in data, of revision 0, as blocks of the encoder's revision. The answer is valid
// until the next call.
func (n *nativeEncoder) encode(data []byte) ([]byte, error) {
	n.buf.Reset()
	reader := chproto.NewReader(bytes.NewReader(data))
	for {
		columns, err := reader.UVarInt()
		if errors.Is(err, io.EOF) {
			return n.buf.Buf, nil
		}
		if err == nil {
			err = n.block(reader, columns)
		}
		if err != nil {
			return nil, fmt.Errorf("rewrite a Native block for protocol revision %d: %w", n.revision, err)
		}
	}
}

func (n *nativeEncoder) block(reader *chproto.Reader, columns uint64) error {
	rows, err := reader.Int()
	if err != nil {
		return err
	}
	if n.revision > 0 {
		// Block info: field 1, not an overflow row of totals; field 2, no bucket of an aggregation; the end.
		n.buf.PutUVarInt(1)
		n.buf.PutBool(false)
		n.buf.PutUVarInt(2)
		n.buf.PutInt32(-1)
		n.buf.PutUVarInt(0)
	}
	n.buf.PutUVarInt(columns)
	n.buf.PutInt(rows)
	for range columns {
		if err := n.column(reader, rows); err != nil {
			return err
		}
	}
	return nil
}

func (n *nativeEncoder) column(reader *chproto.Reader, rows int) error {
	name, err := reader.Str()
	if err != nil {
		return err
	}
	typeName, err := reader.Str()
	if err != nil {
		return err
	}
	n.buf.PutString(name)
	n.buf.PutString(typeName)
	if n.revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
		n.buf.PutBool(false)
	}
	if rows == 0 {
		return nil // not even the prefix that some types have
	}
	values, err := column.Type(typeName).Column(name, &n.server)
	if err != nil {
		return fmt.Errorf("column %s: %w", name, err)
	}
	prefixed, hasPrefix := values.(column.CustomSerialization)
	if hasPrefix {
		if err := prefixed.ReadStatePrefix(reader); err != nil {
			return fmt.Errorf("column %s %s: %w", name, typeName, err)
		}
	}
	if err := values.Decode(reader, rows); err != nil {
		return fmt.Errorf("column %s %s: %w", name, typeName, err)
	}
	if hasPrefix {
		if err := prefixed.WriteStatePrefix(&n.buf); err != nil {
			return fmt.Errorf("column %s %s: %w", name, typeName, err)
		}
	}
	values.Encode(&n.buf)
	return nil
}
