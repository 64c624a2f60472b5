package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/schema"
	"tidegate/test/platform"
)

// TestReplaySurvivesKills kills everything while a replay sends what is partly in Kafka and
// partly in ClickHouse alone. Each event is in the job's folder once, in the end.
func TestReplaySurvivesKills(t *testing.T) {
	const events, partitions, kills = 60_000, 2, 3
	folder, dir := t.TempDir(), t.TempDir()
	args := []string{"--logpush-file-roots", folder, "--topic-partitions", strconv.Itoa(partitions)}
	p := start(t, platform.Options{DataDir: dir, Args: args})
	args = append(args, addresses(p)...)

	from := time.Now().Truncate(time.Millisecond)
	emit(t, p, events)
	eventually(t, time.Minute, "ClickHouse has the events", func() (bool, error) {
		n, err := p.Count(t.Context(), "SELECT count() FROM trace_events")
		return n == events, err
	})
	to := time.Now().Add(time.Millisecond)
	if kept := forgetHalf(t, p.Kafka, partitions); kept < events/4 || kept > 3*events/4 {
		t.Fatalf("Kafka kept %d of %d events, want about a half", kept, events)
	}

	var job struct{ ID int64 }
	if err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
		"dataset": "workers_trace_events", "enabled": false, "destination_conf": "file://" + folder, "max_upload_records": 1000,
		"output_options": map[string]any{"field_names": []string{"WallTimeMs"}},
	}, &job); err != nil {
		t.Fatal(err)
	}
	replays := fmt.Sprintf("/accounts/{account}/logpush/jobs/%d/replays", job.ID)
	var replay struct {
		ID          int64
		State       string
		RecordsSent int64 `json:"records_sent"`
		RecordsLost int64 `json:"records_lost"`
	}
	if err := p.API(t.Context(), http.MethodPost, replays, map[string]any{"from": from, "to": to}, &replay); err != nil {
		t.Fatal(err)
	}
	for range kills {
		before := objects(t, folder)
		eventually(t, time.Minute, "the replay goes on", func() (bool, error) { return objects(t, folder) > before, nil })
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond) // a random moment, not a wait
		p.Process().Kill()
		t.Logf("killed at %d objects", objects(t, folder))
		p = start(t, platform.Options{DataDir: dir, Args: args})
	}
	eventually(t, 2*time.Minute, "the replay is done", func() (bool, error) {
		err := p.API(t.Context(), http.MethodGet, fmt.Sprintf("%s/%d", replays, replay.ID), nil, &replay)
		return replay.State == "done", err
	})

	times := map[int64]int{}
	for _, e := range delivered[struct{ WallTimeMs int64 }](t, folder) {
		times[e.WallTimeMs]++
	}
	for n := range int64(events) {
		if times[n] != 1 {
			t.Errorf("event %d is in the folder %d times", n, times[n])
		}
	}
	if len(times) != events || replay.RecordsSent != events || replay.RecordsLost != 0 {
		t.Errorf("%d of %d events are there; the replay says that it sent %d and lost %d", len(times), events, replay.RecordsSent, replay.RecordsLost)
	}
}

func objects(t *testing.T, folder string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.log.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// emit writes n numbered events of the first account to Kafka.
func emit(t *testing.T, p *platform.Platform, n int) {
	t.Helper()
	client := kafkaClient(t, p.Kafka)
	records := make([]*kgo.Record, n)
	for i := range records {
		e := schema.TraceEvent{ScriptName: "shop", ScriptVersion: schema.ScriptVersion{ID: "v1"},
			EventTimestampMs: time.Now().UnixMilli(), EventType: "fetch", Outcome: "ok", WallTimeMs: new(int64(i))}
		records[i] = &kgo.Record{Topic: schema.Topic, Value: e.AppendJSON(nil), Headers: []kgo.RecordHeader{
			{Key: schema.HeaderAccount, Value: []byte(p.Ready.AccountID)}, {Key: schema.HeaderSchema, Value: []byte(schema.EventSchemaVersion)}}}
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// forgetHalf removes the older half of each partition, as retention does, and returns how
// many records are left.
func forgetHalf(t *testing.T, broker string, partitions int) (kept int64) {
	t.Helper()
	client := kafkaClient(t, broker)
	for partition := range int32(partitions) {
		ask := kmsg.NewListOffsetsRequestTopicPartition()
		ask.Partition, ask.Timestamp = partition, -1
		list := kmsg.NewListOffsetsRequestTopic()
		list.Topic, list.Partitions = schema.Topic, []kmsg.ListOffsetsRequestTopicPartition{ask}
		end := kmsg.NewPtrListOffsetsRequest()
		end.Topics = []kmsg.ListOffsetsRequestTopic{list}
		found, err := end.RequestWith(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		next := found.Topics[0].Partitions[0].Offset

		cut := kmsg.NewDeleteRecordsRequestTopicPartition()
		cut.Partition, cut.Offset = partition, next/2
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic, topic.Partitions = schema.Topic, []kmsg.DeleteRecordsRequestTopicPartition{cut}
		forget := kmsg.NewPtrDeleteRecordsRequest()
		forget.Topics = []kmsg.DeleteRecordsRequestTopic{topic}
		done, err := forget.RequestWith(t.Context(), client)
		if err == nil {
			err = kerr.ErrorForCode(done.Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			t.Fatal(err)
		}
		kept += next - next/2
	}
	return kept
}

func kafkaClient(t *testing.T, broker string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
