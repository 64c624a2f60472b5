package exactlyonce

import (
	"context"
	"strings"
	"time"

	"tidegate/internal/app"
	"tidegate/pipeline/verify"
)

// verify asks the verifier that operators have, which must come to the same as the
// comparison of this test.
func (c *chaos) verify(truth *topic) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	report, err := app.Verify(ctx, app.VerifyConfig{Kafka: c.broker.addrs, ClickHouse: c.tables.addr, Limit: 20})
	if err != nil {
		c.t.Errorf("tidegate verify: %v", err)
		return
	}
	var rows uint64
	var notes []string
	for _, p := range report.Partitions {
		rows += p.Rows
		notes = append(notes, p.Notes...)
	}
	if report.Verdict != verify.Exact || rows != uint64(truth.records) {
		c.t.Errorf("tidegate verify says %s of %d rows, want exact and %d: %s\n%+v", report.Verdict, rows, truth.records, strings.Join(notes, " "), report)
	}
}
