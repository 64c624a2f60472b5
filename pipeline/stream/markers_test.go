package stream

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transact writes n records in one transaction of somebody else's, which leaves a marker behind them.
func transact(t *testing.T, cfg Config, n int, end kgo.TransactionEndTry) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.TransactionalID(unique("theirs")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := client.ProduceSync(testContext(t), &kgo.Record{Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.EndTransaction(testContext(t), end); err != nil {
		t.Fatal(err)
	}
}

// A partition may end with markers of transactions, which are offsets without records. A reader that
// stayed before them would never come to the partition's end.
func TestAReaderGoesBehindMarkersAtTheEnd(t *testing.T) {
	for name, end := range map[string]kgo.TransactionEndTry{"committed": kgo.TryCommit, "aborted": kgo.TryAbort} {
		t.Run(name, func(t *testing.T) {
			cfg := startOwnBroker(t).topic(1)
			r := mustReader(t, cfg)
			read := func(offset int64, wait bool) (records int, next int64) {
				batches, err := r.FetchBatches(testContext(t), 0, offset, wait)
				if err != nil {
					t.Error(err)
				}
				next = offset
				for i := range batches {
					list, bad := batches[i].Decode(new(Memory))
					if next = batches[i].Next; bad != nil {
						t.Errorf("%+v cannot be decoded", bad)
					}
					records += len(list)
				}
				return records, next
			}
			transact(t, cfg, 3, end)
			transact(t, cfg, 0, end) // of which there is nothing, not even a marker
			const marker = 3
			total := 0
			for at := int64(0); at < marker+1; {
				n, next := read(at, false)
				if total += n; next <= at {
					t.Fatalf("from offset %d there is nothing to go on with, after %d records", at, total)
				}
				at = next
			}
			if _, next, err := r.Bounds(testContext(t), 0); total != 3 || next != marker+1 || err != nil {
				t.Errorf("%d records up to %d, error %v", total, next, err)
			}
			if n, next := read(marker, false); n != 0 || next != marker+1 {
				t.Errorf("from the marker on there are %d records up to %d", n, next)
			}
			if n, next := read(marker+1, false); n != 0 || next != marker+1 {
				t.Errorf("from the end on there are %d records up to %d", n, next)
			}
			// Who waits at a marker waits for a record.
			found := make(chan int64, 1)
			go func() {
				_, next := read(marker, true)
				found <- next
			}()
			transact(t, cfg, 1, end)
			if next := <-found; next != marker+2 {
				t.Errorf("it is at %d, want %d", next, marker+2)
			}
		})
	}
}
