package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidegate/pipeline/verify"
)

// reportText is a report for people: tables, then faults, then sentences.
func reportText(r *verify.Report, bold bool) string {
	var out strings.Builder
	s := session{bold: bold}
	var rows, faults [][]string
	for _, p := range r.Partitions {
		rows = append(rows, []string{strconv.Itoa(p.ID), span64(p.From, p.To-1), strconv.FormatUint(p.Rows, 10), strconv.FormatInt(p.Missing, 10),
			strconv.FormatInt(p.Repeated, 10), strconv.FormatInt(p.Stray, 10), strconv.FormatInt(p.Expired, 10), strconv.FormatInt(p.Behind, 10), string(p.Verdict)})
		for _, f := range p.Faults {
			at := ""
			if f.Time != nil {
				at = f.Time.UTC().Format(time.RFC3339Nano)
			}
			faults = append(faults, []string{strconv.Itoa(p.ID), f.Kind, span64(f.First, f.Last), strconv.FormatInt(f.Offsets, 10), strconv.FormatUint(f.Rows, 10), at})
		}
	}
	s.table(&out, []string{"PARTITION", "OFFSETS", "ROWS", "MISSING", "REPEATED", "STRAY", "EXPIRED", "BEHIND", "VERDICT"}, rows)
	writeFaults(&out, &s, []string{"PARTITION", "FAULT", "OFFSETS", "COUNT", "ROWS OF EACH", "FIRST WRITTEN"}, faults)

	rows, faults = nil, nil
	for _, t := range r.Rollups {
		rows = append(rows, []string{t.Table, t.From.Format(time.RFC3339), t.To.Format(time.RFC3339), strconv.FormatUint(t.Requests, 10), strconv.FormatInt(t.Different, 10), string(t.Verdict)})
		for _, c := range t.Faults {
			faults = append(faults, []string{t.Table, c.Time.Format(time.RFC3339), c.AccountID, c.ScriptName, cmp.Or(c.VersionID, "-"), strconv.FormatUint(c.Events, 10), strconv.FormatUint(c.Requests, 10)})
		}
	}
	out.WriteByte('\n')
	s.table(&out, []string{"ROLLUP", "FROM", "TO", "REQUESTS", "DIFFERENT", "VERDICT"}, rows)
	writeFaults(&out, &s, []string{"ROLLUP", "TIME", "ACCOUNT", "SCRIPT", "VERSION", "EVENTS SAY", "ROLLUP SAYS"}, faults)

	out.WriteByte('\n')
	for _, line := range sentences(r) {
		fmt.Fprintln(&out, oneLine(line))
	}
	return out.String()
}

func writeFaults(out *strings.Builder, s *session, header []string, rows [][]string) {
	if len(rows) > 0 {
		out.WriteByte('\n')
		s.table(out, header, rows)
	}
}

// span64 is a range of offsets, both ends included.
func span64(first, last int64) string {
	switch {
	case last < first:
		return "none"
	case last == first:
		return strconv.FormatInt(first, 10)
	}
	return fmt.Sprintf("%d to %d", first, last)
}

// sentences are the notes of a report, how many faults it leaves out, and the verdict.
func sentences(r *verify.Report) (lines []string) {
	var records uint64
	for _, p := range r.Partitions {
		records += p.Rows // where there is no fault
		if p.More > 0 {
			lines = append(lines, fmt.Sprintf("Partition %d: %d more runs of offsets are faulty than are listed; --limit lists more.", p.ID, p.More))
		}
		for _, note := range p.Notes {
			lines = append(lines, fmt.Sprintf("Partition %d: %s", p.ID, note))
		}
	}
	for _, t := range r.Rollups {
		if t.More > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d more rows are wrong than are listed; --limit lists more.", t.Table, t.More))
		}
		for _, note := range t.Notes {
			lines = append(lines, t.Table+": "+note)
		}
	}
	lines = append(lines, r.Notes...)
	switch r.Verdict {
	case verify.Exact:
		all := fmt.Sprintf("each of %d records", records)
		if records == 1 {
			all = "the one record"
		}
		return append(lines, "Exact: "+all+" has one row, and the rollups count what the rows do.")
	case verify.Different:
		return append(lines, "Different: see the faults above.")
	default:
		return append(lines, "Unknown: what could be compared agrees; the sentences above say what could not.")
	}
}
