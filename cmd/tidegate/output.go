package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"tidegate/internal/deploy"
)

const (
	shortID      = 8  // hex digits: what preview hosts use, and the shortest prefix accepted
	messageRunes = 60 // of a message in a table
)

// show writes the API's last result with --json, else what text writes.
func (s *session) show(text func(out io.Writer)) error {
	var out bytes.Buffer
	if s.json {
		if err := json.Indent(&out, s.answers.result, "", "  "); err != nil {
			return fmt.Errorf("print the API's result: %w", err)
		}
		out.WriteByte('\n')
	} else {
		text(&out)
	}
	_, err := s.out.Write(out.Bytes())
	return err
}

// table writes rows below a header, aligned, and says so where there are none. The header is
// made bold afterwards: its escape codes would count as columns.
func (s *session) table(out io.Writer, header []string, rows [][]string) {
	text := aligned(append([][]string{header}, rows...))
	first, rest, _ := strings.Cut(text, "\n")
	if s.bold {
		first = "\x1b[1m" + first + "\x1b[0m"
	}
	if len(rows) == 0 {
		rest = "(none)\n"
	}
	fmt.Fprintf(out, "%s\n%s", first, rest)
}

// counted reads "1 record", "2 records".
func counted[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprint(n, " ", noun, "s")
}

// properties writes one "name  value" line a row; rows with an empty value are
// left out.
func properties(out io.Writer, rows [][]string) {
	var known [][]string
	for _, row := range rows {
		if row[1] != "" {
			known = append(known, row)
		}
	}
	fmt.Fprint(out, aligned(known))
}

func aligned(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // memory
	var trimmed strings.Builder
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(&trimmed, strings.TrimRight(line, " \n"))
	}
	return trimmed.String()
}

// oneLine replaces what would break a table or steer a terminal: messages and
// names are other people's text.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// cut keeps a message from filling the screen.
func cut(text string) string {
	if r := []rune(text); len(r) > messageRunes {
		return string(r[:messageRunes-1]) + "…"
	}
	return text
}

func short(id string) string { return id[:min(shortID, len(id))] }

// moment is local time with its offset; empty when unknown.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// versionName reads "v1 (1a2b3c4d)", or only the id where there is no tag.
func versionName(versions []deploy.Version, id string) string {
	for _, v := range versions {
		if v.ID == id && v.Annotations.Tag != "" {
			return fmt.Sprintf("%s (%s)", oneLine(v.Annotations.Tag), short(id))
		}
	}
	return short(id)
}

// splitText reads "90% v1 (1a2b3c4d), 10% 5e6f7a8b".
func splitText(splits []deploy.Split, versions []deploy.Version) string {
	parts := make([]string, len(splits))
	for i, split := range splits {
		parts[i] = split.Percentage.String() + " " + versionName(versions, split.VersionID)
	}
	return strings.Join(parts, ", ")
}
