package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// fetchVersion of the protocol is the newest whose header is the old one. Brokers
	// have it since 2.3, and 10 is the first that brings zstd.
	fetchVersion = 11
	// answerBytesMax is more than a broker sends for fetchBytesMax, unless a single
	// batch is larger.
	answerBytesMax = 128 << 20
)

// fetchConns are connections to the leaders of partitions, one for each fetch that
// is under way, of which those at rest are used again. Fetches do not go through
// kafka-go because it takes the batches apart as it reads them.
type fetchConns struct {
	security Security
	mu       sync.Mutex
	idle     map[string][]*fetchConn // by address
}

// fetchConn is one connection.
type fetchConn struct {
	net.Conn
	reader *bufio.Reader
	asked  uint32 // numbers its requests
}

// idleMax connections to one broker stay open while nobody needs them.
const idleMax = 32

// answer is what a broker sent of a partition.
type answer struct {
	batches []byte // as they were sent
	end     int64  // the offset behind all that may be read
}

// fetch asks the broker at an address once. The error of the partition is a kafka.Error.
func (f *fetchConns) fetch(ctx context.Context, addr, topic string, partition int, offset int64, minBytes int, wait time.Duration) (answer, error) {
	ask := kmsg.NewPtrFetchRequest()
	ask.SetVersion(fetchVersion)
	ask.ReplicaID, ask.SessionEpoch = -1, -1                                                                   // a consumer, without a session
	ask.MinBytes, ask.MaxBytes, ask.MaxWaitMillis = int32(minBytes), fetchBytesMax, int32(wait.Milliseconds()) // #nosec G115 -- constants
	of := kmsg.NewFetchRequestTopicPartition()
	of.Partition, of.FetchOffset, of.PartitionMaxBytes = int32(partition), offset, fetchBytesMax // #nosec G115 -- a partition's number
	ask.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{of}}}

	c, err := f.get(ctx, addr)
	if err != nil {
		return answer{}, err
	}
	got, err := c.exchange(ctx, ask, requestTimeout+wait)
	if err != nil {
		_ = c.Close() // the first error counts
		return answer{}, fmt.Errorf("fetch from %s: %w", addr, err)
	}
	f.put(addr, c)
	if got.ErrorCode != 0 {
		return answer{}, kafka.Error(got.ErrorCode)
	}
	if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return answer{}, fmt.Errorf("fetch from %s: the answer lacks the partition", addr)
	}
	p := &got.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return answer{}, kafka.Error(p.ErrorCode)
	}
	return answer{p.RecordBatches, p.HighWatermark}, nil
}

// exchange sends a request and waits for its answer until ctx ends. After an error
// the connection is of no use.
func (c *fetchConn) exchange(ctx context.Context, ask *kmsg.FetchRequest, patience time.Duration) (*kmsg.FetchResponse, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	c.asked++
	const sizeBytes = 4
	b := make([]byte, sizeBytes, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(ask.Key())) // #nosec G115 -- a small constant
	b = binary.BigEndian.AppendUint16(b, fetchVersion)
	b = binary.BigEndian.AppendUint32(b, c.asked)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(clientID))), clientID...)
	b = ask.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-sizeBytes)) // #nosec G115 -- some hundred bytes
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	var head [sizeBytes + 4]byte
	if _, err := io.ReadFull(c.reader, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > answerBytesMax || binary.BigEndian.Uint32(head[sizeBytes:]) != c.asked {
		return nil, fmt.Errorf("an answer of %d bytes to another request than %d", size, c.asked)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return nil, err
	}
	answer := kmsg.NewPtrFetchResponse()
	answer.SetVersion(fetchVersion)
	return answer, answer.ReadFrom(body)
}

func (f *fetchConns) get(ctx context.Context, addr string) (*fetchConn, error) {
	f.mu.Lock()
	if list := f.idle[addr]; len(list) > 0 {
		c := list[len(list)-1]
		f.idle[addr] = list[:len(list)-1]
		f.mu.Unlock()
		return c, nil
	}
	f.mu.Unlock()
	conn, err := f.security.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &fetchConn{Conn: conn, reader: bufio.NewReader(conn)}, nil
}

func (f *fetchConns) put(addr string, c *fetchConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.idle[addr]; len(list) < idleMax {
		f.idle[addr] = append(list, c)
		return
	}
	_ = c.Close() // nobody waits for it
}

func (f *fetchConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, list := range f.idle {
		for _, c := range list {
			_ = c.Close() // nobody waits for it
		}
	}
	clear(f.idle)
}
