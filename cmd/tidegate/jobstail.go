package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

// tailLineMax is far above an event, whose logs and exceptions are cut to their budget.
const tailLineMax = 4 << 20

func jobsTail(c *connection) *cobra.Command {
	var request logjob.InstantRequest
	var fields, filter string
	var sample int64
	var length time.Duration
	command := &cobra.Command{
		Use: "tail [JOB]", Short: "Print events as they come, with a job's fields and filter",
		Long: "Print events of the account as they come, one line of NDJSON each, with the fields and the filter of a job or of flags.\n" +
			"An account has one such session at a time. It ends after an hour, or 5 minutes after its last listener left:\n" +
			"until then the command goes on with it if it asks for the same, and is refused if not.",
		Args: arguments(0, 1),
	}
	flags := command.Flags()
	flags.StringVar(&fields, "fields", "", "fields, separated by commas (default: the job's, or the API's)")
	flags.StringVar(&filter, "filter", "", "which events, as Logpush's JSON (default: the job's, or all)")
	flags.Int64Var(&sample, "sample", 1, "show one event in so many")
	lengthVar(flags, &length, "for", "end after this time (default: when interrupted)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := aboveZero(cmd, "for"); err != nil {
			return err
		}
		var id int64
		if len(args) == 1 {
			var err error
			if id, err = jobArgument(cmd, args); err != nil {
				return err
			}
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if id != 0 {
			j, err := s.api.Job(cmd.Context(), s.account, id)
			if err != nil {
				return s.explain("read the job", err)
			}
			request.Fields, request.Filter = new(strings.Join(j.FieldNames(), ",")), &j.Filter
		}
		for flag, member := range map[string]**string{"fields": &request.Fields, "filter": &request.Filter} {
			if flags.Changed(flag) {
				*member = new(flags.Lookup(flag).Value.String())
			}
		}
		request.Sample = given(flags, "sample", sample)
		session, err := s.instantLogs(cmd.Context(), request)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if length > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, length)
			defer cancel()
		}
		return s.listen(ctx, session.URL)
	}
	return command
}

// instantLogs begins a session, or returns the account's if that shows the same.
func (s *session) instantLogs(ctx context.Context, r logjob.InstantRequest) (client.InstantLogs, error) {
	made, refusal := s.api.CreateInstantLogs(ctx, s.account, r)
	if refusal == nil {
		return made, nil
	}
	const attempted = "begin a session of instant logs"
	settings, err := r.Settings()
	if err != nil || errs.KindOf(refusal) != errs.Forbidden {
		return made, s.explain(attempted, refusal)
	}
	list, err := s.api.InstantLogs(ctx, s.account)
	if err != nil || len(list) == 0 { // it was not that
		return made, s.explain(attempted, refusal)
	}
	if there := list[0]; there.InstantSettings != settings {
		return made, fmt.Errorf("%s: the account has one with --fields %s --filter %s --sample %d: give these to join it, "+
			"wait until 5 minutes after its last listener left, or watch one script with \"tidegate tail SCRIPT\"",
			attempted, quoted(there.Fields), quoted(there.Filter), there.Sample)
	}
	return list[0], nil
}

// quoted is a word of a shell.
func quoted(text string) string {
	return "'" + strings.ReplaceAll(oneLine(text), "'", `'\''`) + "'"
}

// listen prints what comes until ctx ends, which is no failure, or the session does.
func (s *session) listen(ctx context.Context, url string) error {
	// The URL is secret: no error of the dial may show it.
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: s.http}) //nolint:bodyclose // Dial has taken the body over
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return errors.New("listen to events: the API names a WebSocket that cannot be reached from here")
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(tailLineMax)
	for {
		_, line, err := conn.Read(ctx)
		closed, ended := errors.AsType[websocket.CloseError](err)
		switch {
		case ctx.Err() != nil:
			return nil
		case ended:
			return fmt.Errorf("listen to events: %s", oneLine(closed.Reason))
		case err != nil:
			return errors.New("listen to events: the connection broke off")
		}
		if _, err := s.out.Write(line); err != nil {
			return err
		}
	}
}
