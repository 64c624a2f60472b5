package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/errs"
)

// EventQuery says which events of a script are meant; empty members leave theirs open.
type EventQuery struct {
	Versions, Outcomes, Decisions, Methods []string
	Statuses                               []string // such as 404, 5xx, 400-404 or none
	Failed                                 *bool
	Text                                   string // part of the URL

	// Of stored events only. Cursor goes on after a page; Limit 0 is the server's own.
	Range
	Limit  int
	Cursor string
}

func (q EventQuery) values() url.Values {
	v := q.Range.values()
	for name, list := range map[string][]string{"version": q.Versions, "outcome": q.Outcomes, "decision": q.Decisions, "method": q.Methods, "status": q.Statuses} {
		if len(list) > 0 {
			v.Set(name, strings.Join(list, ","))
		}
	}
	if q.Failed != nil {
		v.Set("failed", strconv.FormatBool(*q.Failed))
	}
	for name, text := range map[string]string{"text": q.Text, "cursor": q.Cursor} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// EventPage are trace events, newest first.
type EventPage struct {
	Since  time.Time         `json:"since"`
	Until  time.Time         `json:"until"`
	Events []json.RawMessage `json:"events"`
	Cursor string            `json:"cursor"` // empty: there are no more
}

// Events returns stored events of a script. Ask for the next page with the Since and Until
// of the first.
func (c *Client) Events(ctx context.Context, accountID, script string, q EventQuery) (EventPage, error) {
	return get[EventPage](ctx, c, withQuery(scriptPath(accountID, script, "events"), q.values()))
}

// EventsOfRay returns the events of one request, by its Cf-Ray. It is not_found where nothing
// is known of it.
func (c *Client) EventsOfRay(ctx context.Context, accountID, ray string) ([]json.RawMessage, error) {
	page, err := get[EventPage](ctx, c, accountPath(accountID, "workers", "events", ray))
	return page.Events, err
}

// ExceptionQuery asks for the kinds of exceptions of a script. NewIn and ComparedTo, ids of
// versions, go together: what the one threw and the other did not, nor had in the 24 h before.
type ExceptionQuery struct {
	Range
	Versions          []string
	NewIn, ComparedTo string
	Limit             int // 0 is the server's own
}

// Exceptions are the most frequent kinds of exceptions.
type Exceptions struct {
	Since           time.Time        `json:"since"`
	Until           time.Time        `json:"until"`
	TotalExceptions int              `json:"total_exceptions"` // kinds, beyond the limit too
	Exceptions      []ExceptionGroup `json:"exceptions"`
}

// ExceptionGroup is one kind.
type ExceptionGroup struct {
	Fingerprint string           `json:"fingerprint"`
	Name        string           `json:"name"`
	Message     string           `json:"message"`
	Frame       string           `json:"frame"`
	Requests    int64            `json:"requests"`
	Versions    map[string]int64 `json:"versions"`
	FirstSeen   time.Time        `json:"first_seen"`
	LastSeen    time.Time        `json:"last_seen"`
	Sample      json.RawMessage  `json:"sample"` // the newest event; nil if it has gone meanwhile
}

// Exceptions returns what a query means, most frequent first.
func (c *Client) Exceptions(ctx context.Context, accountID, script string, q ExceptionQuery) (Exceptions, error) {
	v := q.Range.values()
	if len(q.Versions) > 0 {
		v.Set("version", strings.Join(q.Versions, ","))
	}
	for name, id := range map[string]string{"new_in": q.NewIn, "compared_to": q.ComparedTo} {
		if id != "" {
			v.Set(name, id)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return get[Exceptions](ctx, c, withQuery(scriptPath(accountID, script, "exceptions"), v))
}

const (
	// eventSilence is three heartbeats of the server.
	eventSilence = 45 * time.Second
	// eventLineMax is far above an event, whose logs and exceptions are cut to their budget.
	eventLineMax = 4 << 20
)

// Watcher takes what a stream of events has. Its functions are called one after the other,
// and an error of theirs ends the stream.
type Watcher struct {
	Opened func() // the server took the question; may be nil
	Event  func(event json.RawMessage) error
	Notice func(sentence string) error // such as how many events are missing
}

// WatchEvents hands the events of a script to w as they come, until ctx ends, whose error
// it then returns, or the stream does. The client must have no time limit of its own.
func (c *Client) WatchEvents(ctx context.Context, accountID, script string, q EventQuery, w Watcher) error {
	path := withQuery(scriptPath(accountID, script, "events", "live"), q.values())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	silence := time.AfterFunc(eventSilence, func() {
		cancel(errs.New(errs.Unavailable, 0, "nothing came for %s, not even a heartbeat", eventSilence))
	})
	defer silence.Stop()
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("watch events: %w", context.Cause(ctx))
		}
		return errs.New(errs.Unavailable, 0, "%v", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var answer envelope
		if err := json.NewDecoder(io.LimitReader(res.Body, answerBytesMax)).Decode(&answer); err != nil {
			return fmt.Errorf("watch events: %w", c.noEnvelope(res, err))
		}
		return fmt.Errorf("watch events: %w", answer.failure(res.StatusCode))
	}
	if w.Opened != nil {
		w.Opened()
	}
	err = readStream(res.Body, eventLineMax, func(name string, data []byte) error {
		silence.Reset(eventSilence)
		return w.take(name, data)
	})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("watch events: %w", err)
}

func (w Watcher) take(name string, data []byte) error {
	switch name {
	case "event":
		return w.Event(data)
	case "notice":
		var notice struct{ Message string }
		if err := json.Unmarshal(data, &notice); err != nil {
			return fmt.Errorf("a notice of the server cannot be read: %w", err)
		}
		return w.Notice(notice.Message)
	}
	return nil // a heartbeat, or what later servers have
}

// readStream reads server-sent events (html.spec.whatwg.org, section 9.2), each of at most
// so many bytes, and hands each one's name and data on. It never returns nil: a stream that ends is an error. The data
// belongs to take.
func readStream(from io.Reader, most int, take func(name string, data []byte) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, most)
	var name string
	var data []byte
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			if data != nil {
				if err := take(name, data); err != nil {
					return err
				}
			}
			name, data = "", nil
		case "event":
			name = value
		case "data":
			if data == nil {
				data = []byte{}
			} else {
				data = append(data, '\n')
			}
			if data = append(data, value...); len(data) > most {
				return fmt.Errorf("an event is longer than %d bytes", most)
			}
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("an event is longer than %d bytes", most)
	}
	if lines.Err() != nil {
		return errs.New(errs.Unavailable, 0, "the stream broke off: %v", lines.Err())
	}
	return errs.New(errs.Unavailable, 0, "the server ended the stream")
}
