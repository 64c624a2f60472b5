package logpush

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"
)

// mark is the metadata of each commit. The committed offset is where the next
// batch begins.
type mark struct {
	// EnabledAt of the job, in Unix microseconds, when the offset was committed.
	// When the job was switched on again since, what lies between is not sent.
	EnabledAt int64 `json:"enabled_at"`
	// Plan is there while the batch that begins at the offset is being uploaded.
	Plan *plan `json:"plan,omitempty"`
	// Newest is the time of the newest record seen in the partition, in Unix
	// milliseconds; 0 is unknown. It tells a partition that lost its end from one
	// that was made anew.
	Newest int64 `json:"newest,omitempty"`
}

// newest is the zero time when it is unknown.
func (m mark) newest() time.Time {
	if m.Newest == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.Newest)
}

// plan fixes a batch before its upload begins. Whoever has to repeat the upload
// builds the same batch under the same name, and so overwrites what is there.
// Without it a repeat would end elsewhere and leave its records twice.
type plan struct {
	// Revision of the job's settings. Under other settings the plan is void: the
	// destination may have refused a batch because of its size.
	Revision int64 `json:"revision"`
	End      int64 `json:"end"`   // offset after the last record
	From     int64 `json:"from"`  // Unix second of the earliest record
	Until    int64 `json:"until"` // Unix second after the latest record
}

func (m mark) String() string {
	b, err := json.Marshal(m)
	if err != nil { // numbers always marshal
		return ""
	}
	return string(b)
}

// parseMark returns the zero mark for metadata that is not ours.
func parseMark(metadata string) (m mark) {
	if json.Unmarshal([]byte(metadata), &m) != nil {
		return mark{}
	}
	return m
}

func (p *plan) start() time.Time { return time.Unix(p.From, 0).UTC() }
func (p *plan) until() time.Time { return time.Unix(p.Until, 0).UTC() }

// batchID names the batch of a job that begins at an offset.
func batchID(job int64, partition int, begin int64) string {
	return fmt.Sprintf("%d-%d-%d", job, partition, begin)
}

// objectName has the shape that Logpush's objects are known by: the time range
// [start, end) in UTC, and 8 hexadecimal digits that tell batches of the same
// range apart.
func objectName(id string, p *plan) string {
	const second = "20060102T150405Z"
	hash := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%s_%s_%x.log.gz", p.start().Format(second), p.until().Format(second), hash[:4])
}

// sampled decides by job, partition and offset whether a record is in the
// sample: independent of other records, and the same again when a batch has to
// be rebuilt.
func sampled(rate float64, job int64, partition int, offset int64) bool {
	if rate >= 1 {
		return true
	}
	x := uint64(offset) + uint64(job)*0x9e3779b97f4a7c15 + uint64(partition)*0xd1b54a32d192ed03
	// The finalizer of SplitMix64 (Steele, Lea, Flood 2014), twice, because
	// neighbouring inputs are the rule here.
	for range 2 {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return float64(x>>11)/(1<<53) < rate
}
