package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/logjob"
)

// sampleFileMax is above what the API takes, which then says how much that is.
const sampleFileMax = 8 << 20

func jobsTest(c *connection) *cobra.Command {
	var events string
	var limit int
	command := &cobra.Command{
		Use: "test JOB", Short: "Print what a job would send of the newest events, and send nothing",
		Long: "Print what a job would send of the newest events, or of those in a file, exactly as it would be sent, uncompressed.\n" +
			"Flags try other settings than the stored ones. What was left out, and why, is on standard error.",
		Example: "  tidegate jobs test 3 --output-type csv --limit 10\n  tidegate jobs test 3 --events samples.ndjson",
		Args:    arguments(1, 1),
	}
	settings := newJobSettings(command)
	command.Flags().StringVar(&events, "events", "", "file of events, one JSON object after the other or one list of them; - is standard input")
	command.Flags().IntVar(&limit, "limit", 100, "how many of the newest events to look at, up to 1000")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, id int64, _ []string) error {
		var err error
		request := client.PreviewRequest{Limit: given(cmd.Flags(), "limit", limit)}
		if events != "" {
			if request.Events, err = readEvents(cmd.InOrStdin(), events); err != nil {
				return err
			}
		}
		j, err := s.api.Job(cmd.Context(), s.account, id)
		if err != nil {
			return s.explain("read the job", err)
		}
		if request.Update, err = settings.update(cmd, j.Output()); err != nil {
			return err
		}
		preview, err := s.api.TestJob(cmd.Context(), s.account, id, request)
		if err != nil {
			return s.explain("try the job", err)
		}
		if s.json {
			return s.show(nil)
		}
		for i := range preview.Objects {
			if _, err := s.out.Write(preview.Objects[i].Bytes()); err != nil {
				return err
			}
		}
		_, err = io.WriteString(cmd.ErrOrStderr(), summaryOf(&preview))
		return err
	})
	return command
}

// summaryOf says what a preview prints no bytes of.
func summaryOf(p *logjob.Preview) string {
	var text bytes.Buffer
	source := "of the newest events in Kafka"
	if p.Source == logjob.PreviewRequest {
		source = "of the events given"
	}
	fmt.Fprintf(&text, "%d %s: %d would be sent, in %s\n", p.LookedAt, source, p.Sent, counted(len(p.Objects), "object"))
	for _, reason := range []struct {
		n    int64
		text string
	}{
		{p.Dropped.Filter, "left out by the filter"}, {p.Dropped.Sample, "left out by the sample"},
		{p.Dropped.LogpushDisabled, "of scripts that keep out of Logpush"}, {p.Dropped.Deleted, "deleted by request"}, {p.Dropped.Malformed, "no JSON objects"},
		{p.Cut, "sent with Logs or Exceptions cut to their budget"},
	} {
		if reason.n > 0 {
			fmt.Fprintf(&text, "%d %s\n", reason.n, reason.text)
		}
	}
	for _, o := range p.Objects {
		fmt.Fprintf(&text, "%s: %s, %s, %s\n", oneLine(o.Name), counted(o.Records, "record"), counted(len(o.Bytes()), "byte"), oneLine(o.ContentType))
		if o.OneByOne {
			fmt.Fprintln(&text, "  the destination takes them one by one and puts its own around them")
		}
	}
	return text.String()
}

// readEvents reads JSON values, or the one list that they are in.
func readEvents(stdin io.Reader, path string) (events []json.RawMessage, err error) {
	text, err := readAll(stdin, path, sampleFileMax)
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var value json.RawMessage
		if err := d.Decode(&value); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the events: %s is not JSON after %d events, near byte %d: %w", path, len(events), d.InputOffset(), err)
		}
		events = append(events, value)
	}
	if len(events) == 1 && events[0][0] == '[' {
		var list []json.RawMessage
		err := json.Unmarshal(events[0], &list)
		events = list
		if err != nil {
			return nil, fmt.Errorf("read the events: %w", err)
		}
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("read the events: %s has none", path)
	}
	return events, nil
}
