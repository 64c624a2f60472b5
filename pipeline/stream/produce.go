package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// produceBatch sends one batch to one partition and waits until every in-sync
// replica has it. It does not try again. When it fails, maybeWritten tells that
// Kafka may have stored the batch all the same.
//
// This is Client.RawProduce and not kafka.Writer: a Writer batches per partition
// behind our back, repeats by itself what may have been written, and doesn't say
// which. RawProduce takes the bytes that the spool holds, so that a batch is
// encoded once.
func produceBatch(ctx context.Context, client *kafka.Client, topic string, partition int, b batch) (maybeWritten bool, err error) {
	data := &sentReader{Reader: *bytes.NewReader(b.data)}
	answer, err := client.RawProduce(ctx, &kafka.RawProduceRequest{
		Topic:        topic,
		Partition:    partition,
		RequiredAcks: kafka.RequireAll, // the zero value would be none
		RawRecords:   protocol.RawRecordSet{Reader: data},
	})
	if err == nil && (answer.Error == nil || errors.Is(answer.Error, kafka.DuplicateSequenceNumber)) {
		return false, nil // a duplicate: it has the batch
	}
	if err == nil {
		err = answer.Error
		// The broker said no, except that these mean "no answer from the replicas".
		maybeWritten = errors.Is(err, kafka.RequestTimedOut) || errors.Is(err, kafka.NotEnoughReplicasAfterAppend)
	} else {
		maybeWritten = data.sent.Load()
	}
	return maybeWritten, fmt.Errorf("produce %d events, %d bytes, to %s/%d: %w", b.events, len(b.data), topic, partition, err)
}

// sentReader notices that its bytes were taken to be written to a connection. As
// long as they were not, a failed request can't have reached the broker.
type sentReader struct {
	bytes.Reader
	sent atomic.Bool
}

func (r *sentReader) Read(p []byte) (int, error) {
	r.sent.Store(true)
	return r.Reader.Read(p)
}

func (r *sentReader) WriteTo(w io.Writer) (int64, error) {
	r.sent.Store(true)
	return r.Reader.WriteTo(w)
}

// isUnrecognised tells an error by which Kafka does not take a batch under its identity,
// and will not.
func isUnrecognised(err error) bool {
	for _, code := range []kafka.Error{
		kafka.OutOfOrderSequenceNumber,   // the partition lacks what came before it
		kafka.UnknownProducerId,          // the same, before Kafka 2.5
		kafka.InvalidProducerEpoch,       // somebody else uses the producer id
		kafka.ProducerFenced,             // the same
		kafka.InvalidProducerIDMapping,   // the same
		kafka.ClusterAuthorizationFailed, // the right to have one was taken away
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// isRefused tells an error that no repeat can mend: it is about the records.
func isRefused(err error) bool {
	return isTooLarge(err) || errors.Is(err, kafka.InvalidRecord) || errors.Is(err, kafka.InvalidTimestamp)
}

func isTooLarge(err error) bool {
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge)
}
