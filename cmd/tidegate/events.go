package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// filter are the flags that say which events are meant.
type filter struct {
	versions []string
	failed   bool
	query    client.EventQuery
}

func (f *filter) flags(cmd *cobra.Command) {
	flags, q := cmd.Flags(), &f.query
	flags.StringSliceVar(&f.versions, "version", nil, "only of these versions: ids, their first digits, or tags")
	flags.StringSliceVar(&q.Outcomes, "outcome", nil, "only with these outcomes, such as exception,exceededCpu")
	flags.StringSliceVar(&q.Statuses, "status", nil, "only with these statuses, such as 404, 5xx, 400-404 or none")
	flags.StringSliceVar(&q.Methods, "method", nil, "only with these methods, such as POST")
	flags.StringSliceVar(&q.Decisions, "decision", nil, "only where the version was chosen so, such as split,affinity")
	flags.StringVar(&q.Text, "text", "", "only with this text in the URL")
	flags.BoolVar(&f.failed, "failed", false, "only failures; --failed=false: only what did not fail")
}

// read fills in what the API calls otherwise.
func (f *filter) read(cmd *cobra.Command, s *session, script string) (q client.EventQuery, err error) {
	q = f.query
	q.Failed = given(cmd.Flags(), "failed", f.failed)
	q.Versions, err = s.versionIDs(cmd, script, f.versions)
	return q, err
}

func eventsList(c *connection) *cobra.Command {
	var which filter
	var when asked
	command := &cobra.Command{
		Use: "list SCRIPT", Short: "List stored events of a script, newest first",
		Example: "  tidegate events list shop --failed --version v2 --since 1h", Args: arguments(1, 1),
	}
	which.flags(command)
	when.flags(command, false)
	command.Flags().IntVar(&which.query.Limit, "limit", 0, "list so many at most, up to 500 (default: 50)")
	command.Flags().StringVar(&which.query.Cursor, "cursor", "", "go on after an earlier list, with its --since and --until")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := aboveZero(cmd, "limit"); err != nil {
			return err
		}
		r, err := when.between(cmd)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		q, err := which.read(cmd, s, args[0])
		if err != nil {
			return err
		}
		q.Range = r
		page, err := s.api.Events(cmd.Context(), s.account, args[0], q)
		if err != nil {
			return s.explain("list the events of "+args[0], err)
		}
		return s.show(func(out io.Writer) {
			s.period(out, page.Since, page.Until)
			s.writeEvents(out, page.Events)
			if page.Cursor != "" {
				fmt.Fprintf(out, "There may be more: --since %s --until %s --cursor %s\n", page.Since.Format(time.RFC3339Nano), page.Until.Format(time.RFC3339Nano), page.Cursor)
			}
		})
	}
	return command
}

func eventsView(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "view RAY", Short: "Show what became of one request, by its Cf-Ray", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			list, err := s.api.EventsOfRay(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("find the request "+args[0], err)
			}
			return s.show(func(out io.Writer) {
				for i, value := range list {
					if i > 0 {
						fmt.Fprintln(out)
					}
					writeEvent(out, value)
				}
			})
		},
	}
}

// writeEvent writes all of an event that a person would look for.
func writeEvent(out io.Writer, value json.RawMessage) {
	e, request := decoded(value)
	properties(out, [][]string{
		{"Time", moment(time.UnixMilli(e.EventTimestampMs))}, {"Script", e.ScriptName}, {"Version", named(e.ScriptVersion.Tag, e.ScriptVersion.ID)},
		{"Event", e.EventType}, {"Request", strings.TrimSpace(request.Request.Method + " " + request.Request.URL)}, {"Status", statusOf(request)},
		{"Outcome", e.Outcome}, {"Error", e.ErrorKind}, {"Wall time", milliseconds(e.WallTimeMs)}, {"CPU time", milliseconds(e.CPUTimeMs)},
		{"Chosen by", e.Gateway.Decision}, {"Ray", e.Gateway.RayID},
	})
	for _, x := range e.Exceptions {
		fmt.Fprintf(out, "\n%s: %s\n", oneLine(x.Name), oneLine(x.Message))
		for line := range strings.Lines(x.Stack) {
			fmt.Fprintf(out, "  %s\n", strings.TrimSpace(oneLine(line)))
		}
	}
	for _, l := range e.Logs {
		fmt.Fprintf(out, "\n[%s] %s\n", oneLine(l.Level), oneLine(logged(l.Message)))
	}
}

// logged is what console.log was given, as a console shows it.
func logged(values []json.RawMessage) string {
	words := make([]string, len(values))
	for i, value := range values {
		if json.Unmarshal(value, &words[i]) != nil {
			words[i] = string(value)
		}
	}
	return strings.Join(words, " ")
}

func eventsExceptions(c *connection) *cobra.Command {
	var when asked
	var q client.ExceptionQuery
	var newIn, comparedTo string
	command := &cobra.Command{
		Use: "exceptions SCRIPT", Short: "Count what a script threw, by kind, the most frequent first",
		Example: "  tidegate events exceptions shop --new-in v2 --compared-to v1", Args: arguments(1, 1),
	}
	when.flags(command, false)
	command.Flags().StringSliceVar(&q.Versions, "version", nil, "only of these versions: ids, their first digits, or tags")
	command.Flags().StringVar(&newIn, "new-in", "", "only what this version threw and that of --compared-to did not, in this time and 24 h before")
	command.Flags().StringVar(&comparedTo, "compared-to", "", "see --new-in")
	command.Flags().IntVar(&q.Limit, "limit", 0, "show so many kinds at most, up to 100 (default: 20)")
	command.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if (newIn == "") != (comparedTo == "") {
			return usage(cmd, errors.New("--new-in and --compared-to go together: each names a version"))
		}
		if err = aboveZero(cmd, "limit"); err != nil {
			return err
		}
		if q.Range, err = when.between(cmd); err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		refs := q.Versions
		if newIn != "" {
			refs = append(slices.Clone(refs), newIn, comparedTo)
		}
		ids, err := s.versionIDs(cmd, args[0], refs)
		if err != nil {
			return err
		}
		if q.Versions = ids; newIn != "" {
			n := len(ids) - 2
			q.Versions, q.NewIn, q.ComparedTo = ids[:n], ids[n], ids[n+1]
		}
		found, err := s.api.Exceptions(cmd.Context(), s.account, args[0], q)
		if err != nil {
			return s.explain("count the exceptions of "+args[0], err)
		}
		return s.show(func(out io.Writer) { s.writeExceptions(out, &found) })
	}
	return command
}

func (s *session) writeExceptions(out io.Writer, found *client.Exceptions) {
	s.period(out, found.Since, found.Until)
	rows := make([][]string, len(found.Exceptions))
	for i, x := range found.Exceptions {
		var versions []string
		for _, id := range slices.Sorted(maps.Keys(x.Versions)) {
			versions = append(versions, short(id)+" "+count(x.Versions[id]))
		}
		sample, _ := decoded(x.Sample)
		rows[i] = []string{count(x.Requests), strings.Join(versions, ", "), cut(x.Name + ": " + x.Message), cut(x.Frame), moment(x.LastSeen), sample.Gateway.RayID}
	}
	s.table(out, []string{"REQUESTS", "VERSIONS", "EXCEPTION", "AT", "LAST", "SAMPLE"}, rows)
	if more := found.TotalExceptions - len(found.Exceptions); more > 0 {
		fmt.Fprintf(out, "%d more kinds were thrown: --limit shows them.\n", more)
	}
}

// tail watches a script.
func tail(c *connection) *cobra.Command {
	var which filter
	var length time.Duration
	command := &cobra.Command{
		Use: "tail SCRIPT", Short: "Print the events of a script as they come",
		Long: "Print the events of a script as they come, until interrupted: a line each, and with --json the event as JSON. What the server\n" +
			"has to say, such as how many events are missing, is on standard error.",
		Example: "  tidegate tail shop --failed", Args: arguments(1, 1),
	}
	which.flags(command)
	lengthVar(command.Flags(), &length, "for", "end after this time (default: when interrupted)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := aboveZero(cmd, "for"); err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		q, err := which.read(cmd, s, args[0])
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if length > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, length)
			defer cancel()
		}
		opened := false
		err = s.streams.WatchEvents(ctx, s.account, args[0], q, client.Watcher{
			Opened: func() { opened = true },
			Event: func(event json.RawMessage) error {
				line := string(event)
				if !s.json {
					line = oneLine(strings.Join(slices.DeleteFunc(eventRow(event), func(cell string) bool { return cell == "" }), "  "))
				}
				_, err := fmt.Fprintln(s.out, line)
				return err
			},
			Notice: func(sentence string) error {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), oneLine(sentence))
				return err
			},
		})
		switch {
		case ctx.Err() != nil && (opened || cmd.Context().Err() != nil):
			return nil
		case ctx.Err() != nil: // no events are not the same as no answer
			return fmt.Errorf("watch %s: the API at %s did not answer within %s: give --for more time, or look whether the API works", args[0], s.address, length)
		}
		return s.explain("watch "+args[0], err)
	}
	return command
}

func (s *session) writeEvents(out io.Writer, list []json.RawMessage) {
	rows := make([][]string, len(list))
	for i, value := range list {
		rows[i] = eventRow(value)
	}
	s.table(out, []string{"TIME", "RAY", "VERSION", "OUTCOME", "STATUS", "WALL", "REQUEST", "EXCEPTION"}, rows)
}

// eventRow is an event in one line.
func eventRow(value json.RawMessage) []string {
	e, request := decoded(value)
	what, thrown := e.EventType, e.ErrorKind
	if request.Request.URL != "" {
		what = request.Request.Method + " " + request.Request.URL
	}
	if len(e.Exceptions) > 0 {
		thrown = e.Exceptions[0].Name + ": " + e.Exceptions[0].Message
	}
	return []string{moment(time.UnixMilli(e.EventTimestampMs)), e.Gateway.RayID, named(e.ScriptVersion.Tag, e.ScriptVersion.ID), e.Outcome,
		statusOf(request), milliseconds(e.WallTimeMs), cut(what), cut(thrown)}
}

// decoded leaves empty what an event has not.
func decoded(value json.RawMessage) (e schema.TraceEvent, request schema.FetchEvent) {
	if json.Unmarshal(value, &e) == nil && e.EventType == "fetch" {
		_ = json.Unmarshal(e.Event, &request) // as it is, or empty
	}
	return e, request
}

func statusOf(request schema.FetchEvent) string {
	if request.Response == nil {
		return ""
	}
	return strconv.Itoa(request.Response.Status)
}

func milliseconds(ms *int64) string {
	if ms == nil {
		return ""
	}
	return strconv.FormatInt(*ms, 10) + " ms"
}
