package logjob

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); run the test with -update when it should:\n%s", path, diff)
	}
}

// events splits the events of testdata/events.ndjson.
func events(t testing.TB) []*Record {
	t.Helper()
	text, err := os.ReadFile("testdata/events.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	var records []*Record
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return records
		} else if err != nil {
			t.Fatal(err)
		}
		var r Record
		if err := r.Split(raw); err != nil {
			t.Fatal(err)
		}
		records = append(records, &r)
	}
}

func TestFiltersMatchTheGoldenFile(t *testing.T) {
	file, err := os.Open("testdata/filters.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records := events(t)
	var got bytes.Buffer
	for lines := bufio.NewScanner(file); lines.Scan(); {
		text := lines.Text()
		if strings.HasPrefix(text, "#") {
			continue
		}
		fmt.Fprintln(&got, text)
		filter, err := ParseFilter(text)
		if err != nil {
			fmt.Fprintf(&got, "\trefused: %v\n", err)
			continue
		}
		var matches []int
		for i, r := range records {
			if filter.Match(r) {
				matches = append(matches, i+1)
			}
		}
		fmt.Fprintf(&got, "\tmatches %v\n", matches)
	}
	golden(t, "testdata/filters.golden", got.Bytes())
}

func TestFormatsMatchTheGoldenFile(t *testing.T) {
	text, err := os.ReadFile("testdata/formats.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name    string
		Options *OutputOptions
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, c := range cases {
		format, err := (&Job{OutputOptions: c.Options}).Format()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		fmt.Fprintf(&got, "=== %s (%s)\n%s\n", c.Name, format.ContentType, batch(format, events(t)))
	}
	golden(t, "testdata/formats.golden", got.Bytes())
}

// batch writes records as one batch.
func batch(f *Format, records []*Record) []byte {
	b := append([]byte(nil), f.BatchPrefix...)
	for i, r := range records {
		if i > 0 {
			b = append(b, f.Delimiter...)
		}
		b = f.AppendRecord(b, r)
	}
	b = append(b, f.BatchSuffix...)
	f.Defuse(b)
	return b
}
