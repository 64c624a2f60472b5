package logpush

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// plansMax bounds the plans of a commit, whose metadata brokers keep up to 4,096
// bytes of (offset.metadata.max.bytes). A plan takes 126 at most.
const plansMax = 16

// mark is the metadata of each commit. The committed offset is where the first
// plan begins, or else the next window.
type mark struct {
	// EnabledAt of the job, in Unix microseconds, when the offset was committed.
	// When the job was switched on again since, what lies between is not sent.
	EnabledAt int64 `json:"enabled_at"`
	// Began is the offset at which delivery began when the job was switched on at
	// EnabledAt: what lies before is a replay's. Nil in marks of earlier versions.
	Began *int64 `json:"began,omitempty"`
	// Revision of the job's settings that the plans were made under. Under other
	// settings they are void: the destination may have refused a batch because of
	// its size.
	Revision int64 `json:"revision,omitempty"`
	// Plans are those of the windows that are being uploaded, in the order of their
	// offsets. Between one's end and the next one's begin no record is sent.
	Plans []plan `json:"plans,omitempty"`
	// Newest is the time of the newest record seen in the partition, in Unix
	// milliseconds; 0 is unknown. It tells a partition that lost its end from one
	// that was made anew.
	Newest int64 `json:"newest,omitempty"`
	// Told are offsets behind the committed one that were counted and told as lost. Who comes to
	// them again, to rebuild a window, does not lose them a second time.
	Told []span `json:"told,omitempty"`

	// Plan is what marks had before there could be several.
	Plan *oldPlan `json:"plan,omitempty"`
}

// oldPlan is a plan of the window that begins at the committed offset.
type oldPlan struct {
	Revision int64 `json:"revision"`
	End      int64 `json:"end"`
	From     int64 `json:"from"`
	Until    int64 `json:"until"`
}

// span is offsets from Begin up to, not including, End.
type span struct {
	Begin int64 `json:"begin"`
	End   int64 `json:"end"`
}

// newest is the zero time when it is unknown.
func (m mark) newest() time.Time {
	if m.Newest == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.Newest)
}

// plan fixes a window before its upload begins. Whoever has to repeat the upload
// builds the same batches under the same names, and so overwrites what is there.
// Without it a repeat would end elsewhere and leave its records twice.
type plan struct {
	Begin int64 `json:"begin"`          // offset of the first record
	End   int64 `json:"end"`            // offset after the last record
	From  int64 `json:"from"`           // Unix second of the earliest record
	Until int64 `json:"until"`          // Unix second after the latest record
	Done  bool  `json:"done,omitempty"` // delivered, while an earlier one is not
	// ID tells the window from any other that begins at the same offset: one cut
	// under other settings, one that ends elsewhere, one of a topic that was made
	// anew, or what is left of it when it has to be built again. Receivers that know a
	// batch by its id would leave that out. Empty in plans of earlier versions, whose
	// batches were named without.
	ID string `json:"id,omitempty"`
}

// contentID makes a plan's ID of what its content follows from, its begin and the
// partition aside, and of how many records that comes to.
func contentID(revision int64, p *plan, records int) string {
	return digits(fmt.Sprintf("%d %d %d %d %d", revision, p.End, p.From, p.Until, records))
}

func (m mark) String() string {
	b, err := json.Marshal(m)
	if err != nil { // numbers always marshal
		return ""
	}
	return string(b)
}

// parseMark returns the mark that was committed with an offset, the zero mark for
// metadata that is not ours.
func parseMark(offset int64, metadata string) (m mark) {
	if json.Unmarshal([]byte(metadata), &m) != nil {
		return mark{}
	}
	if old := m.Plan; old != nil {
		m.Revision, m.Plan = old.Revision, nil
		m.Plans = []plan{{Begin: offset, End: old.End, From: old.From, Until: old.Until}}
	}
	return m
}

func (p *plan) start() time.Time { return time.Unix(p.From, 0).UTC() }
func (p *plan) until() time.Time { return time.Unix(p.Until, 0).UTC() }

// isNot reports whether a record shows that the plan was made for others: what a window
// goes over is within its times.
func (p *plan) isNot(r *entry) bool {
	return r.Offset >= p.Begin && (r.Time.Unix() < p.From || r.Time.Unix() >= p.Until)
}

// batchID names what a plan fixed of a job's live delivery, or of its replay.
func (s *settings) batchID(partition int, p *plan) string {
	id := fmt.Sprintf("%d-%d-%d", s.job.ID, partition, p.Begin)
	if s.replay != 0 {
		id = fmt.Sprintf("%d-r%d-%d-%d", s.job.ID, s.replay, partition, p.Begin)
	}
	if p.ID == "" {
		return id
	}
	return id + "-" + p.ID
}

// objectName has the shape that Logpush's objects are known by: the time range
// [start, end) in UTC, and 8 hexadecimal digits that tell batches of the same
// range apart.
func objectName(id string, p *plan) string {
	const second = "20060102T150405Z"
	return fmt.Sprintf("%s_%s_%s.log.gz", p.start().Format(second), p.until().Format(second), digits(id))
}

// name returns the id and the object's name of the part's part of a batch.
func (g part) name(batchID string, p *plan) (id, object string) {
	full := batchID + "\x00" + g.script + "\x00" + g.version
	return batchID + "-" + digits(full), objectName(full, p)
}

// digits are 8 hexadecimal digits made of an id.
func digits(id string) string {
	hash := sha256.Sum256([]byte(id))
	return hex.EncodeToString(hash[:4])
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
