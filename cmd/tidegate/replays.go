package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/logjob"
)

// replayPoll is how often a replay is looked at that is followed.
const replayPoll = time.Second

func jobsReplay(c *connection) *cobra.Command {
	var from, to string
	var follow, unmarked bool
	command := &cobra.Command{
		Use: "replay JOB --from TIME [--to TIME]", Short: "Send a job's events of a range of times again",
		Long: "Send a job's events of a range of times again. Without --to it ends where live delivery began when the job was\n" +
			"switched on, so that nothing is sent twice. What live delivery sent since, such as to a receiver that then lost it,\n" +
			"is sent again with --to now.",
		Example: "  tidegate jobs replay 3 --from 2026-11-01T00:00:00Z --to 2026-11-01T06:00:00Z --follow\n" +
			"  tidegate jobs replay 3 --from 36h\n  tidegate jobs replay 3 --from 36h --to now",
		Args: arguments(1, 1),
	}
	flags := command.Flags()
	flags.StringVar(&from, "from", "", "the first time, such as 2026-11-01T00:00:00Z, or how long ago, such as 36h")
	flags.StringVar(&to, "to", "", "the time before which it ends, or now (default: where live delivery began when the job was switched on)")
	flags.BoolVar(&follow, "follow", false, "wait for the end, and show how far it is")
	flags.BoolVar(&unmarked, "include-unmarked", false, "also events of which it was not stored whether their scripts opted out of Logpush")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, _ []string) error {
		if err := required(cmd, "from"); err != nil {
			return err
		}
		q := logjob.ReplayRequest{IncludeUnmarked: unmarked}
		var err error
		if q.From, err = timeFlag(cmd, "from", from); err != nil {
			return err
		}
		if to != "" {
			until, err := timeFlag(cmd, "to", to)
			if err != nil {
				return err
			}
			q.To = &until
		}
		r, err := s.api.CreateReplay(cmd.Context(), s.account, job, q)
		if err != nil {
			return s.explain("replay the job", err)
		}
		if follow {
			return s.followReplay(cmd, r)
		}
		return s.show(func(out io.Writer) {
			fmt.Fprintf(out, "Replay %d of job %d waits for its turn; tidegate jobs replays %d shows how far it is\n%s\n", r.ID, job, job, replayRange(&r))
		})
	})
	return command
}

// followReplay shows a replay until it is over. It is an error if that is not its end.
func (s *session) followReplay(cmd *cobra.Command, r client.Replay) error {
	ctx, bar := cmd.Context(), cmd.ErrOrStderr()
	shows := terminal(bar)
	if shows {
		fmt.Fprintln(bar, replayRange(&r))
	}
	for r.State == logjob.ReplayQueued || r.State == logjob.ReplayRunning {
		if shows {
			fmt.Fprintf(bar, "\r\x1b[K%s", oneLine(replayBar(&r)))
		}
		if err := sleep(ctx, replayPoll); err != nil {
			return err
		}
		var err error
		if r, err = s.api.Replay(ctx, s.account, r.JobID, r.ID); err != nil {
			return s.explain("look at the replay", err)
		}
	}
	if shows {
		fmt.Fprint(bar, "\r\x1b[K")
	}
	if err := s.show(func(out io.Writer) { writeReplay(out, &r) }); err != nil {
		return err
	}
	if r.State != logjob.ReplayDone {
		return fmt.Errorf("replay %d is %s: %s", r.ID, r.State, oneLine(r.Error))
	}
	return nil
}

// writeReplay shows what became of a replay.
func writeReplay(out io.Writer, r *client.Replay) {
	fmt.Fprintf(out, "Replay %d of job %d is %s: %s sent, %s\n%s\n", r.ID, r.JobID, r.State, counted(r.RecordsSent, "event"), counted(r.BytesSent, "byte"), replayRange(r))
	if r.Position != nil {
		fmt.Fprintf(out, "the newest event sent is of %s\n", moment(*r.Position))
	}
	if r.RecordsUnmarked > 0 {
		fmt.Fprintf(out, "%d events were left out, of which nobody knows whether their scripts had opted out (--include-unmarked)\n", r.RecordsUnmarked)
	}
	if r.KeptFrom != nil {
		fmt.Fprintf(out, "events from before %s may be missing: of at least one partition nothing older was kept\n", moment(*r.KeptFrom))
	}
	for _, l := range r.Losses {
		fmt.Fprintf(out, "lost: %s of partition %d, offsets %d to %d: %s\n", counted(l.Missing, "record"), l.Partition, l.Begin, l.End-1, oneLine(l.Reason))
	}
}

// replayRange is the time of a replay. Without an end of its own it leaves out what whoever
// replays because the receiver lost data wants most.
func replayRange(r *client.Replay) string {
	if r.To != nil {
		return fmt.Sprintf("from %s to %s", moment(r.From), moment(*r.To))
	}
	return fmt.Sprintf("from %s to where live delivery began when the job was switched on; --to now sends what is newer, too", moment(r.From))
}

// replayBar is one line: how much is done, of what, and what it waits for.
func replayBar(r *client.Replay) string {
	line := bar(r.OffsetsDone, r.OffsetsTotal)
	line += fmt.Sprintf("%s, %s sent", r.State, counted(r.RecordsSent, "event"))
	if r.Position != nil {
		line += ", at " + moment(*r.Position)
	}
	if r.EstimatedEnd != nil {
		line += ", until about " + r.EstimatedEnd.Local().Format(time.TimeOnly)
	}
	if r.Error != "" {
		line += ": " + cut(r.Error)
	}
	return line
}

// bar shows how much is done of a total, which is 0 while it is not known.
func bar(done, total int64) string {
	const width = 30
	if total <= 0 {
		return fmt.Sprintf("[%s] ", strings.Repeat("·", width))
	}
	full := int(min(max(done, 0), total) * width / total)
	return fmt.Sprintf("[%s%s] %3d%% ", strings.Repeat("#", full), strings.Repeat("·", width-full), done*100/total)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func jobsReplays(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "replays JOB", Short: "List the replays of a job, newest first", Args: arguments(1, 1)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, _ []string) error {
		list, err := s.api.Replays(cmd.Context(), s.account, job)
		if err != nil {
			return s.explain("list the replays", err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(list))
			for i, r := range list {
				to, done := "begin of live delivery", ""
				if r.To != nil {
					to = moment(*r.To)
				}
				if r.OffsetsTotal > 0 {
					done = fmt.Sprintf("%d%%", r.OffsetsDone*100/r.OffsetsTotal)
				}
				rows[i] = []string{strconv.FormatInt(r.ID, 10), r.State, moment(r.From), to, done,
					strconv.FormatInt(r.RecordsSent, 10), strconv.FormatInt(r.RecordsLost, 10), cut(oneLine(r.Error))}
			}
			s.table(out, []string{"ID", "STATE", "FROM", "TO", "DONE", "SENT", "LOST", "ERROR"}, rows)
		})
	})
	return command
}

func jobsReplayCancel(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "replay-cancel JOB REPLAY", Short: "End a replay; what was sent stays sent", Args: arguments(2, 2)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, rest []string) error {
		id, err := strconv.ParseInt(rest[0], 10, 64)
		if err != nil {
			return usage(cmd, fmt.Errorf("%q is not the id of a replay: \"tidegate jobs replays %d\" shows them", rest[0], job))
		}
		r, err := s.api.CancelReplay(cmd.Context(), s.account, job, id)
		if err != nil {
			return s.explain("cancel the replay", err)
		}
		return s.show(func(out io.Writer) {
			fmt.Fprintf(out, "Replay %d of job %d is canceled, with %s sent before\n", r.ID, job, counted(r.RecordsSent, "event"))
		})
	})
	return command
}
