package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tidegate/test/platform"
)

// account stops the clients and holds what they were answered against what every place
// has. Each request has a ray, which its event has too.
func account(ctx context.Context, c *cluster) (string, error) {
	c.load.stop()
	answers := c.load.answers()
	for ray, n := range answers {
		if ray == "" || n != 1 {
			return "", fmt.Errorf("%d answers have the ray %q", n, ray)
		}
	}
	var counts platform.Counts
	if err := until(ctx, "Kafka, ClickHouse and its rollups agree", func() (err error) {
		if counts, err = c.platform.Counts(ctx); err == nil && (!counts.Agree() || counts.Kafka < int64(len(answers))) {
			err = fmt.Errorf("%d answers, %s", len(answers), counts)
		}
		return err
	}); err != nil {
		return "", err
	}
	stored, err := c.storedRays(ctx)
	if err != nil {
		return "", err
	}
	repeated, err := onlyAnswers("ClickHouse", stored, answers)
	if err != nil {
		return "", err
	}
	for _, router := range c.routers {
		if err := c.noteRepeats(ctx, router); err != nil {
			return "", err
		}
	}
	if float64(repeated) > c.repeats {
		return "", fmt.Errorf("there are %d records twice in Kafka, and routers of the earlier release may have repeated %.0f", repeated, c.repeats)
	}
	if err := c.delivered(ctx, stored); err != nil {
		return "", err
	}
	verify := exec.CommandContext(ctx, filepath.Join(c.bin, "tidegate"), "verify", "--kafka", c.platform.Kafka, "--clickhouse", c.platform.ClickHouse+"/tidegate")
	if out, err := verify.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tidegate verify: %w\n%s", err, out)
	}
	repeats := "no event twice"
	if repeated > 0 {
		repeats = fmt.Sprintf("%d events twice, by routers of the earlier release, which counted %.0f that may be", repeated, c.repeats)
	}
	return fmt.Sprintf("%d answers = %d different events in ClickHouse; %s; in Kafka %s; `tidegate verify`: exact; the HTTP receiver has each event, objects have each record exactly once",
		len(answers), len(stored), counts, repeats), nil
}

// storedRays returns ClickHouse's rows by ray.
func (c *cluster) storedRays(ctx context.Context) (map[string]int, error) {
	text, err := c.platform.Query(ctx, "SELECT ray_id, count() FROM trace_events GROUP BY ray_id")
	if err != nil {
		return nil, err
	}
	rays := map[string]int{}
	for line := range strings.Lines(text) {
		ray, count, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if rays[ray], err = strconv.Atoi(count); err != nil {
			return nil, err
		}
	}
	return rays, nil
}

// onlyAnswers checks that a place has each answer's event, and no other one. It returns
// how many it has more than once.
func onlyAnswers(place string, rays, answers map[string]int) (repeated int, err error) {
	for ray := range answers {
		if rays[ray] == 0 {
			return 0, fmt.Errorf("%s lacks the event of the answer %s", place, ray)
		}
	}
	for ray, n := range rays {
		if answers[ray] == 0 {
			return 0, fmt.Errorf("%s has an event %s that is of no answer", place, ray)
		}
		repeated += n - 1
	}
	return repeated, nil
}

// delivered waits until the receiver has each event, and the objects each record once.
func (c *cluster) delivered(ctx context.Context, stored map[string]int) error {
	return until(ctx, "Logpush has delivered everything", func() error {
		lines, err := c.services.delivered()
		if err != nil {
			return fatal{err}
		}
		for ray, n := range stored {
			if lines[ray] < n {
				return fmt.Errorf("the receiver has %d of %d events, and lacks %s", len(lines), len(stored), ray)
			}
		}
		objects, err := objectRays(c.folder)
		if err != nil {
			return err
		}
		for ray, n := range stored {
			if objects[ray] > n {
				return fatal{fmt.Errorf("objects have the event %s %d times, ClickHouse %d times", ray, objects[ray], n)}
			}
			if objects[ray] < n {
				return fmt.Errorf("objects have %d of %d events, and lack %s", len(objects), len(stored), ray)
			}
		}
		if len(objects) != len(stored) || len(lines) != len(stored) {
			return fatal{errors.New("destinations have events that ClickHouse lacks")}
		}
		return nil
	})
}
