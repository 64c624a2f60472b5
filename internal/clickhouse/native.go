package clickhouse

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	tables "tidegate/schema/clickhouse"
)

// sizeOf is about what a block takes, rather more than less: to make room for it at once
// costs nothing, to grow by and by costs copies of all of it.
func sizeOf(rows int, columns []tables.Column) int {
	const (
		headBytes   = 64 // of a column: its name and type, and what a dictionary has before its words
		numberBytes = 9  // a value of any type with a fixed size, and whether it is known
		lengthBytes = 3  // before a text of up to 2 MiB
	)
	size := 0
	for _, c := range columns {
		size += headBytes + rows*numberBytes
		switch values := c.Values.(type) {
		case [][]byte:
			for _, v := range values {
				size += lengthBytes + len(v)
			}
		case []string:
			if c.Type == tables.TypeWord {
				continue // few are different
			}
			for _, v := range values {
				size += lengthBytes + len(v)
			}
		}
	}
	return size
}

// appendBlock appends one block in ClickHouse's Native format, revision 0, which is
// what its HTTP interface reads: the numbers of columns and rows, then of each column
// name, type and values. clickhouse-go could write it too, from copies that its own
// columns make of all values; this takes a sixth of the time.
func appendBlock(b []byte, rows int, columns []tables.Column) ([]byte, error) {
	b = slices.Grow(b, sizeOf(rows, columns))
	b = binary.AppendUvarint(b, uint64(len(columns)))
	b = binary.AppendUvarint(b, uint64(rows)) // #nosec G115 -- a length
	for _, c := range columns {
		b = appendText(b, c.Name)
		b = appendText(b, c.Type)
		var n int
		var ok bool
		if b, n, ok = appendValues(b, c); !ok {
			return nil, fmt.Errorf("column %s: values of type %T cannot be sent as %s", c.Name, c.Values, c.Type)
		}
		if n != rows {
			return nil, fmt.Errorf("column %s has %d values of %d", c.Name, n, rows)
		}
	}
	return b, nil
}

// appendValues returns also how many there are, and false for what it does not know.
func appendValues(b []byte, c tables.Column) ([]byte, int, bool) {
	switch values := c.Values.(type) {
	case sameTime:
		for range values.rows {
			b = appendInt64(b, values.ms)
		}
		return b, values.rows, true
	case []string:
		if c.Type == tables.TypeWord {
			return appendWords(b, values), len(values), true
		}
		return appendTexts(b, values), len(values), true
	case [][]byte:
		return appendTexts(b, values), len(values), true
	case []time.Time:
		return appendEach(b, values, func(b []byte, v time.Time) []byte { return appendInt64(b, v.UnixMilli()) }), len(values), true
	case []int32:
		return appendEach(b, values, func(b []byte, v int32) []byte {
			return binary.LittleEndian.AppendUint32(b, uint32(v)) // #nosec G115 -- its bits
		}), len(values), true
	case []int64:
		return appendEach(b, values, appendInt64), len(values), true
	case []uint16:
		return appendEach(b, values, binary.LittleEndian.AppendUint16), len(values), true
	case []uint64:
		return appendEach(b, values, binary.LittleEndian.AppendUint64), len(values), true
	case []tables.Maybe[int64]:
		return appendEach(appendUnknown(b, values), values, func(b []byte, v tables.Maybe[int64]) []byte { return appendInt64(b, v.Value) }), len(values), true
	case []tables.Maybe[float64]:
		return appendEach(appendUnknown(b, values), values, func(b []byte, v tables.Maybe[float64]) []byte {
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Value))
		}), len(values), true
	}
	return b, 0, false
}

func appendEach[T any](b []byte, values []T, one func([]byte, T) []byte) []byte {
	for _, v := range values {
		b = one(b, v)
	}
	return b
}

func appendInt64(b []byte, v int64) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(v)) // #nosec G115 -- its bits
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendTexts[T string | []byte](b []byte, texts []T) []byte {
	for _, text := range texts {
		b = appendText(b, text)
	}
	return b
}

// appendUnknown appends which values of a Nullable column are NULL.
func appendUnknown[T any](b []byte, values []tables.Maybe[T]) []byte {
	for _, v := range values {
		if v.Known {
			b = append(b, 0)
		} else {
			b = append(b, 1)
		}
	}
	return b
}

// Of a LowCardinality column in the Native format (ClickHouse's SerializationLowCardinality):
// the version of its keys, and the bits beside the width of its indexes.
const (
	keysVersion     = 1
	keysFollow      = 1 << 9
	dictionaryIsNew = 1 << 10
)

// appendWords appends a LowCardinality column: its different values, and of each row
// the number of its value.
func appendWords(b []byte, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	numbers := map[string]uint32{}
	var words []string
	indexes := make([]uint32, len(values))
	last, number := "", uint32(0)
	for i, v := range values {
		if i == 0 || v != last { // rows like the one before are most
			var known bool
			if number, known = numbers[v]; !known {
				number = uint32(len(words)) // #nosec G115 -- a number of rows
				numbers[v], words = number, append(words, v)
			}
			last = v
		}
		indexes[i] = number
	}
	width := uint64(0)
	for width < 2 && len(words) > 1<<(8<<width) {
		width++
	}
	b = binary.LittleEndian.AppendUint64(b, keysVersion)
	b = binary.LittleEndian.AppendUint64(b, width|keysFollow|dictionaryIsNew)
	b = appendInt64(b, int64(len(words)))
	b = appendTexts(b, words)
	b = appendInt64(b, int64(len(values)))
	for _, n := range indexes {
		switch width {
		case 0:
			b = append(b, byte(n)) // #nosec G115 -- below 1 << 8
		case 1:
			b = binary.LittleEndian.AppendUint16(b, uint16(n)) // #nosec G115 -- below 1 << 16
		default:
			b = binary.LittleEndian.AppendUint32(b, n)
		}
	}
	return b
}

const insertInto = "INSERT INTO "

// insertStatement names the columns, so that a table may have more.
func insertStatement(table string, columns []tables.Column) string {
	names := make([]string, 0, len(columns))
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return insertInto + table + " (" + strings.Join(names, ", ") + ")"
}
