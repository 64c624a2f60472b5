package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// noise returns n bytes that don't compress.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func mustOpenSpool(t testing.TB, dir string, bytesMax int64) *spool {
	t.Helper()
	s, err := openSpool(dir, bytesMax)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func numbered(i int) batch { return batch{data: fmt.Appendf(nil, "batch %d", i), events: i + 1} }

func mustAppend(t testing.TB, s *spool, batches ...batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.append(b); err != nil {
			t.Fatal(err)
		}
	}
}

// takeAll empties s.
func takeAll(t testing.TB, s *spool) (all []batch, lost damage) {
	t.Helper()
	for {
		b, ok, l, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		lost.events, lost.bytes = lost.events+l.events, lost.bytes+l.bytes
		if !ok {
			return all, lost
		}
		all = append(all, b)
		if err := s.took(b); err != nil {
			t.Fatal(err)
		}
	}
}

func requireBatches(t testing.TB, got []batch, want ...batch) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("read %d batches, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].data, want[i].data) || got[i].events != want[i].events {
			t.Fatalf("batch %d is %q with %d events, want %q with %d", i, got[i].data, got[i].events, want[i].data, want[i].events)
		}
	}
}

func TestSpoolReturnsBatchesInOrderAcrossSegmentsAndRestarts(t *testing.T) {
	dir := t.TempDir()
	var want []batch
	const big = segmentBytesMax/2 - 100 // three to a segment
	for i := range 7 {
		want = append(want, batch{data: append(numbered(i).data, make([]byte, big)...), events: i})
	}
	s := mustOpenSpool(t, dir, 1<<30)
	mustAppend(t, s, want[:4]...)
	first, _, _, err := s.next()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.took(first), s.close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpenSpool(t, dir, 1<<30)
	mustAppend(t, s, want[4:]...)
	got, lost := takeAll(t, s)
	requireBatches(t, append([]batch{first}, got...), want...)
	if lost != (damage{}) || s.size() != 0 {
		t.Errorf("lost %+v and left %d bytes, want none", lost, s.size())
	}
}

// The cursor of a segment that is gone once skipped the frames of a new segment
// with the same number.
func TestSpoolCursorNeverSpeaksOfANewSegment(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		s := mustOpenSpool(t, dir, 1<<20)
		mustAppend(t, s, numbered(0), numbered(1))
		got, _ := takeAll(t, s)
		requireBatches(t, got, numbered(0), numbered(1))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpenSpool(t, dir, 1<<20)
		mustAppend(t, s, numbered(2), numbered(3))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpenSpool(t, dir, 1<<20)
		got, _ = takeAll(t, s)
		requireBatches(t, got, numbered(2), numbered(3))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoolRefusesAtItsBound(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), 2*(frameHeaderBytes+10))
	mustAppend(t, s, batch{data: make([]byte, 10), events: 1}, batch{data: make([]byte, 10), events: 2})
	if err := s.append(batch{data: []byte{1}, events: 3}); !errors.Is(err, errSpoolFull) {
		t.Errorf("append at the bound: %v, want errSpoolFull", err)
	}
	if got, _ := takeAll(t, s); len(got) != 2 {
		t.Errorf("%d batches, want the 2 that fit", len(got))
	}
	mustAppend(t, s, batch{data: make([]byte, 10), events: 4})
}

func TestSpoolPassesOverDamage(t *testing.T) {
	frame := int64(frameHeaderBytes + len(numbered(0).data))
	f := func(name string, harm func(b []byte) []byte, want []batch, lost damage) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpenSpool(t, dir, 1<<20)
			mustAppend(t, s, numbered(0), numbered(1), numbered(2))
			path := s.path(1)
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, harm(content), 0o600); err != nil {
				t.Fatal(err)
			}
			s = mustOpenSpool(t, dir, 1<<20)
			mustAppend(t, s, numbered(9))
			got, gotLost := takeAll(t, s)
			requireBatches(t, got, append(want, numbered(9))...)
			if gotLost != lost {
				t.Errorf("lost %+v, want %+v", gotLost, lost)
			}
		})
	}
	f("torn batch", func(b []byte) []byte { return b[:3*frame-2] },
		[]batch{numbered(0), numbered(1)}, damage{events: 3, bytes: frame - 2})
	f("torn header", func(b []byte) []byte { return b[:2*frame+5] },
		[]batch{numbered(0), numbered(1)}, damage{bytes: 5})
	f("zeros at the end", func(b []byte) []byte { return append(b[:2*frame], make([]byte, 100)...) },
		[]batch{numbered(0), numbered(1)}, damage{bytes: 100})
	f("flipped bit in a batch", func(b []byte) []byte { b[frame+frameHeaderBytes+3] ^= 4; return b },
		[]batch{numbered(0), numbered(2)}, damage{events: 2, bytes: frame})
	f("flipped bit in a header", func(b []byte) []byte { b[frame+7] ^= 4; return b },
		[]batch{numbered(0)}, damage{bytes: 2 * frame})
}

// Whatever a crash or a bad disk leaves: the reader ends, never panics, returns no
// batch that was not written, and all those before the first damaged byte.
func FuzzSpool(f *testing.F) {
	f.Add([]byte("tail"), uint16(0), byte(0), uint16(1000))
	f.Add([]byte{}, uint16(20), byte(1), uint16(1000))
	f.Add(make([]byte, 40), uint16(30), byte(0), uint16(60))
	f.Add(appendFrame(nil, numbered(1)), uint16(0), byte(0x80), uint16(1000))
	bound := withHeader("bound")
	bound.bind(&identity{producer: 7})
	f.Add(appendFrame(nil, bound), uint16(0), byte(0), uint16(1000))
	var written []batch
	var content []byte
	for i := range 4 {
		written = append(written, numbered(i))
		content = appendFrame(content, numbered(i))
	}
	frame := len(content) / 4
	f.Fuzz(func(t *testing.T, tail []byte, at uint16, flip byte, cut uint16) {
		harmed := bytes.Clone(content)
		intact := len(harmed)
		if int(cut) < len(harmed) {
			harmed = harmed[:cut]
			intact = len(harmed)
		}
		if int(at) < len(harmed) && flip != 0 {
			harmed[at] ^= flip
			intact = min(intact, int(at))
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%020d%s", 1, segmentSuffix)), append(harmed, tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cursor"), tail, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpenSpool(t, dir, 1<<20)
		got, lost := takeAll(t, s)
		// The tail may hold good frames of its own: they were written, by the fuzzer.
		allowed := framesIn(tail)
		for _, b := range written {
			allowed[string(b.data)] = true
		}
		for i, b := range got {
			b.bind(nil)
			if !allowed[string(b.data)] {
				t.Errorf("batch %d, %q, was never written", i, b.data)
			}
		}
		for i := range intact / frame {
			if i >= len(got) || !bytes.Equal(got[i].data, written[i].data) {
				t.Fatalf("batch %d is intact and was not returned", i)
			}
		}
		if s.size() != 0 {
			t.Errorf("%d bytes left, lost %+v", s.size(), lost)
		}
	})
}

// FuzzSpoolFolder: whatever files are in a folder, under whatever names, and wherever an undamaged
// cursor points, a spool opens and drains, what is no segment stays as it is, and what is
// appended afterwards is there in the next life.
func FuzzSpoolFolder(f *testing.F) {
	f.Add("1.seg", uint64(5), uint64(3))
	f.Add("00000000000000000007.seg", uint64(7), uint64(24))
	f.Add("18446744073709551616.seg", uint64(4), uint64(1)<<63)
	f.Add("+0000000000000000001.seg", uint64(6), uint64(0))
	f.Fuzz(func(t *testing.T, name string, number, offset uint64) {
		number %= 1 << 63
		dir := t.TempDir()
		write := func(name string, content []byte) bool {
			return os.WriteFile(filepath.Join(dir, name), content, 0o600) == nil
		}
		content := appendFrame(nil, numbered(0))
		cursor := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, number), offset)
		cursor = binary.BigEndian.AppendUint32(cursor, crc32.Checksum(cursor, castagnoli))
		if filepath.Base(name) != name || name == "lock" || name == "cursor" || name == segmentName(5) || !write(name, content) || !write(segmentName(5), content) || !write("cursor", cursor) {
			return
		}
		other, isSegment := segmentNumber(name)
		if isSegment && other >= 1<<63 {
			return // nobody has appended that often
		}
		s := mustOpenSpool(t, dir, 1<<20)
		got, _ := takeAll(t, s)
		if s.size() != 0 {
			t.Errorf("%d bytes left", s.size())
		}
		want, segments := 0, []uint64{5}
		if isSegment {
			segments = append(segments, other)
		}
		for _, n := range segments {
			if n > number || n == number && offset == 0 { // before the cursor, and at its end, all is sent
				want++
			}
		}
		if len(got) < want || len(got) > 2 {
			t.Errorf("%d batches were found, want %d", len(got), want)
		}
		if left, err := os.ReadFile(filepath.Join(dir, name)); !isSegment && (err != nil || !bytes.Equal(left, content)) {
			t.Errorf("%q became %q, %v", name, left, err)
		}
		mustAppend(t, s, numbered(1))
		noError(t, s.close())
		s = mustOpenSpool(t, dir, 1<<20)
		got, _ = takeAll(t, s)
		requireBatches(t, got, numbered(1))
	})
}

// A segment under a shorter name was looked for under its whole one, which was not there:
// nothing of the spool was sent any more.
func TestSpoolLeavesFilesOfOtherNamesAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1.seg", "000000000000000000002.seg", "+0000000000000000003.seg", "x.seg"} {
		noError(t, os.WriteFile(filepath.Join(dir, name), appendFrame(nil, numbered(1)), 0o600))
	}
	noError(t, os.WriteFile(filepath.Join(dir, segmentName(4)), appendFrame(nil, numbered(0)), 0o600))
	s := mustOpenSpool(t, dir, 1<<20)
	got, _ := takeAll(t, s)
	requireBatches(t, got, numbered(0))
	var said bytes.Buffer
	s.tellKept(slog.New(slog.NewTextHandler(&said, nil)))
	if lines := strings.Count(said.String(), "\n"); lines != 4 || !strings.Contains(said.String(), filepath.Join(dir, "1.seg")) {
		t.Errorf("the log says\n%s", said.String())
	}
}

// framesIn returns the content of every good frame in b, wherever it begins.
func framesIn(b []byte) map[string]bool {
	found := map[string]bool{}
	for i := range b {
		if frame, _, err := readFrame(bytes.NewReader(b[i:])); err == nil {
			found[string(frame.data)] = true
		}
	}
	return found
}

// withHeader makes a batch with a header, which can have an identity.
func withHeader(value string) batch {
	return encode([]event{{timeMS: 1_790_000_000_000, account: "acme", value: []byte(value)}}, "1")
}

func mustNext(t testing.TB, s *spool) batch {
	t.Helper()
	b, ok, _, err := s.next()
	if err != nil || !ok {
		t.Fatalf("next: %v, %v", ok, err)
	}
	return b
}

// The identity that a batch is sent under is of the next life, too, and of that batch alone.
func TestSpoolKeepsTheIdentityThatWasNoted(t *testing.T) {
	dir := t.TempDir()
	first := &identity{cluster: clusterOf("a"), producer: 7, epoch: 1, sequence: 100, partition: 3}
	second := &identity{cluster: clusterOf("b"), producer: 8, partition: 2}
	spooled := withHeader("b")
	spooled.bind(second)
	s := mustOpenSpool(t, dir, 1<<20)
	mustAppend(t, s, withHeader("a"), spooled, withHeader("c"))
	want := func(life string, id *identity) {
		t.Helper()
		got := mustNext(t, s)
		if !reflect.DeepEqual(got.id, id) {
			t.Errorf("%s: the identity is %+v, want %+v", life, got.id, id)
		}
		data := bytes.Clone(got.data)
		if stamp(data, id); !bytes.Equal(data, got.data) {
			t.Errorf("%s: the batch has another identity in its header", life)
		}
	}
	want("new", nil)
	noError(t, s.note(first))
	for _, life := range []string{"noted", "noted, in the next life"} {
		want(life, first)
		noError(t, s.close())
		s = mustOpenSpool(t, dir, 1<<20)
	}
	noError(t, s.took(mustNext(t, s)))
	want("spooled with one", second)
	noError(t, s.note(first))
	noError(t, s.close())
	s = mustOpenSpool(t, dir, 1<<20)
	want("noted anew, in the next life", first)
	noError(t, s.note(nil))
	noError(t, s.close())
	s = mustOpenSpool(t, dir, 1<<20)
	want("withdrawn, in the next life", nil)
	noError(t, s.note(first))
	noError(t, s.setAside(mustNext(t, s)))
	want("after it was set aside", nil)
	noError(t, s.took(mustNext(t, s)))
	want("the last, set aside", first)
	noError(t, s.setAside(mustNext(t, s)))
	if got, _ := takeAll(t, s); len(got) != 1 {
		t.Errorf("a batch alone is there %d times after it was set aside", len(got))
	}
}

// A release before identities sends the bytes of a batch to any partition. It must not
// find an identity in them, which may be another batch's there.
func TestSpoolHasNoIdentityInABatch(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), 1<<20)
	bound := withHeader("a")
	bound.bind(&identity{cluster: clusterOf("a"), producer: 7, sequence: 3, partition: 1})
	mustAppend(t, s, bound, withHeader("b"))
	content, err := os.ReadFile(s.path(1))
	noError(t, err)
	frames, lost := framesOfOldRelease(content)
	requireBatches(t, frames, withHeader("a"), withHeader("b"))
	if want := (damage{bytes: frameHeaderBytes + identityBytes}); lost != want {
		t.Errorf("it finds damage of %+v, want %+v", lost, want)
	}
}

// framesOfOldRelease reads a segment as releases before identities do.
func framesOfOldRelease(content []byte) (frames []batch, lost damage) {
	be := binary.BigEndian
	for len(content) > 0 {
		end := frameHeaderBytes + int(be.Uint32(content[4:]))
		b := batch{data: content[frameHeaderBytes:end], events: int(be.Uint32(content[12:]))}
		if be.Uint32(content[8:]) == crc32.Checksum(b.data, castagnoli) {
			frames = append(frames, b)
		} else {
			lost.events, lost.bytes = lost.events+b.events, lost.bytes+int64(end)
		}
		content = content[end:]
	}
	return frames, lost
}

// What is set aside in a full spool takes no room in the end.
func TestSpoolSetsAsideAtItsBound(t *testing.T) {
	first := withHeader("a")
	first.bind(&identity{cluster: clusterOf("a"), producer: 7})
	s := mustOpenSpool(t, t.TempDir(), int64(framesBytes(first)+framesBytes(withHeader("b"))))
	mustAppend(t, s, first, withHeader("b"))
	if err := s.append(withHeader("c")); !errors.Is(err, errSpoolFull) {
		t.Fatalf("append at the bound: %v, want errSpoolFull", err)
	}
	noError(t, s.setAside(mustNext(t, s)))
	got, _ := takeAll(t, s)
	requireBatches(t, got, withHeader("b"), first)
	if s.size() != 0 {
		t.Errorf("%d bytes left", s.size())
	}
}

// A loss of power can bring back what was removed, but not past the cursor; it is kept, for
// somebody may have put it there.
func TestSpoolKeepsSegmentsBeforeItsCursorOutOfTheWay(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, 1<<30)
	big := batch{data: make([]byte, segmentBytesMax), events: 1}
	mustAppend(t, s, big)
	sent, err := os.ReadFile(s.path(1))
	noError(t, err)
	mustAppend(t, s, numbered(1), numbered(2), numbered(3))
	noError(t, s.took(mustNext(t, s)))
	noError(t, s.took(mustNext(t, s)))
	removed := s.path(1)
	noError(t, s.close())
	noError(t, os.WriteFile(removed, sent, 0o600))
	s = mustOpenSpool(t, dir, 1<<30)
	got, _ := takeAll(t, s)
	requireBatches(t, got, numbered(2), numbered(3))
	if s.size() != 0 {
		t.Errorf("%d bytes left", s.size())
	}
	if len(s.kept) != 1 || s.kept[0].bytes != int64(len(sent)) {
		t.Fatalf("kept %+v, want %d bytes", s.kept, len(sent))
	}
	if kept, err := os.ReadFile(s.kept[0].path); err != nil || !bytes.Equal(kept, sent) {
		t.Errorf("%s has %d bytes, %v", s.kept[0].path, len(kept), err)
	}
}

// A release before identities wrote less into the cursor.
func TestSpoolReadsAnOldCursor(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, 1<<20)
	mustAppend(t, s, withHeader("a"), withHeader("b"))
	noError(t, s.took(mustNext(t, s)))
	noError(t, s.close())
	noError(t, os.Truncate(filepath.Join(dir, "cursor"), cursorPlaceBytes))
	s = mustOpenSpool(t, dir, 1<<20)
	got, _ := takeAll(t, s)
	requireBatches(t, got, withHeader("b"))
}
