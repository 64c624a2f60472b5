package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidegate/schema/control"
)

// Bounds of what is in order. A page that shows something as wrong which a healthy
// platform does now and then is not looked at any more.
const (
	// routerSilent is three reports that did not come.
	routerSilent = 3 * control.RouterReportEvery
	// snapshotLate is two waits of a snapshot's long poll, after each of which a router
	// hears whether its snapshot is the newest.
	snapshotLate = time.Minute
	// routerStarts is three reports: the first of a router that starts comes before its snapshot.
	routerStarts = 3 * control.RouterReportEvery
	// dropRecent is how long a loss of events is shown as something that is wrong now.
	dropRecent = 10 * time.Minute
	// spoolNearlyFull is when there is little time left before events are lost.
	spoolNearlyFull = 0.8
	// outboxLate is longer than a message waits for its first three tries.
	outboxLate = 5 * time.Minute
)

// assess makes the parts of the facts, those that others need first.
func assess(f *control.SystemFacts, now time.Time) []partView {
	parts := []partView{databasePart(f), kafkaPart(f), enginePart(f), ingestPart(f)}
	if f.Database.Err != nil {
		const sentence, advice = "Nobody can tell without the database.", "See to the database first."
		for _, kind := range []string{"router", "logpush", "rollback", "notifications"} {
			parts = append(parts, partView{Kind: kind, Name: kind, State: partUnknown, Sentence: sentence, Advice: advice})
		}
		return parts
	}
	return append(parts, append(routerParts(f, now), deliveryPart(f, now), rollbackPart(f, now), outboxPart(f, now))...)
}

func databasePart(f *control.SystemFacts) partView {
	p := partView{Kind: "database", Name: f.DatabaseKind, State: partOK, Sentence: "It answers.", AnsweredMS: milliseconds(f.Database.Took)}
	if f.Database.Err != nil {
		p.State, p.AnsweredMS = partDown, nil
		p.Sentence = "It does not answer within 5 seconds, or answers with an error. Gateways go on with the deployments that they have; nothing can be changed, and nothing is rolled back."
		p.Advice = "Look at the database that --database names, and at the log of this process for the error."
	}
	return p
}

func kafkaPart(f *control.SystemFacts) partView {
	p := partView{Kind: "kafka", Name: "Kafka", State: partOK, AnsweredMS: milliseconds(f.Kafka.Took)}
	if f.Kafka.Err != nil {
		p.State, p.AnsweredMS = partDown, nil
		p.Sentence = "It does not answer for the topic of trace events within 5 seconds, or answers with an error. Gateways keep events on their disks up to a bound; rates stand still, so nothing is judged."
		p.Advice = "Look at the brokers that --kafka names, and at the log of this process for the error."
		return p
	}
	p.Sentence = fmt.Sprintf("The topic of trace events has %s, and each answers.", counted(int64(len(f.Ingest)), "partition"))
	return p
}

func enginePart(f *control.SystemFacts) partView {
	p := partView{Kind: "clickhouse", Name: "ClickHouse", State: partOK, Sentence: "It answers.", AnsweredMS: milliseconds(f.Engine.Took)}
	if f.Engine.Err != nil {
		p.State, p.AnsweredMS = partDown, nil
		p.Sentence = "It does not answer within 5 seconds, or answers with an error. Events wait in Kafka; there are no rates, so ramps hold and nothing is judged."
		p.Advice = "Look at the server that --clickhouse names, and at the log of this process for the error."
	}
	return p
}

func ingestPart(f *control.SystemFacts) partView {
	p := partView{Kind: "ingest", Name: "Ingest", State: partUnknown, Ingest: &ingestView{}}
	if f.Newest.Err == nil {
		p.Ingest.NewestEventOn = optional(f.NewestOn)
	}
	if f.Kafka.Err != nil {
		p.Sentence, p.Advice = "Nobody can tell how many events wait while Kafka does not answer.", "See to Kafka first."
		return p
	}
	var lag int64
	var late, stopped, unknown int
	for _, partition := range f.Ingest {
		reading := ingestReading{Partition: partition.Partition, Next: partition.Next, LagEvents: partition.Lag()}
		if partition.Committed >= 0 {
			reading.Committed = &partition.Committed
		}
		p.Ingest.Partitions = append(p.Ingest.Partitions, reading)
		lag += reading.LagEvents
		switch {
		case reading.LagEvents == 0:
		case partition.Stopped():
			stopped++
		case partition.Late():
			late++
		case partition.Minute < 0 || partition.FiveMinutes < 0:
			unknown++
		}
	}
	p.Ingest.LagEvents = &lag
	const look = "See that an ingest process runs and reaches Kafka and ClickHouse; its log and tidegate_ingest_errors_total say what stops it."
	waiting := fmt.Sprintf("%s in Kafka %s", counted(lag, "event"), verb(lag, "waits", "wait"))
	switch {
	case lag == 0:
		p.State, p.Sentence = partOK, "Every event that Kafka has is stored."
	case f.Engine.Err != nil:
		p.State, p.Sentence, p.Advice = partDown, waiting+" for ClickHouse, which does not answer.", "See to ClickHouse first. Nothing is lost as long as Kafka keeps the events."
	case stopped > 0:
		p.State, p.Sentence, p.Advice = partDown, fmt.Sprintf("%s, in %s for more than 5 minutes.", waiting, counted(int64(stopped), "partition")), look
	case late > 0:
		p.State, p.Sentence, p.Advice = partDegraded, fmt.Sprintf("%s, in %s for more than a minute.", waiting, counted(int64(late), "partition")), look
	case unknown > 0:
		p.Sentence, p.Advice = waiting+", and Kafka does not tell for how long.", "Look at the log of this process for the error, and whether the number grows."
	default:
		p.State, p.Sentence = partOK, counted(lag, "event")+" "+verb(lag, "is on its", "are on their")+" way, all of the last minute."
	}
	return p
}

func routerParts(f *control.SystemFacts, now time.Time) []partView {
	if len(f.Routers) == 0 {
		return []partView{{
			Kind: "router", Name: "router", State: partUnknown, Sentence: "No router has told of itself.",
			Advice: "Start a router with --api-url and --api-token-file. One of an older version serves without telling of itself: upgrade it.",
		}}
	}
	parts := make([]partView, len(f.Routers))
	for i := range f.Routers {
		parts[i] = routerPart(&f.Routers[i], f.Revision, now)
	}
	return parts
}

func routerPart(r *control.RouterState, newest int64, now time.Time) partView {
	dropped := r.Dropped
	if dropped == nil {
		dropped = map[string]int64{}
	}
	p := partView{Kind: "router", Name: r.ID, State: partOK, Router: &routerView{
		Version: r.Version, StartedOn: timestamp(r.StartedOn), SeenSince: timestamp(r.SeenSince), ReportedOn: timestamp(r.ReportedOn),
		Revision: r.Revision, ConfirmedOn: optional(r.ConfirmedOn), SnapshotError: r.SnapshotError,
		EventsEmitted: r.EventsEmitted, EventsSent: r.EventsSent, QueueEvents: r.QueueEvents,
		SpoolBytes: r.SpoolBytes, SpoolBytesMax: r.SpoolBytesMax, Dropped: dropped, DroppedOn: optional(r.DroppedOn),
	}}
	if silent := now.Sub(r.ReportedOn); silent > routerSilent {
		p.State = partDown
		p.Sentence = fmt.Sprintf("It has not told of itself for %s; the numbers are from then.", ago(now, r.ReportedOn))
		p.Advice = "See whether the machine and the process run, and reach this control plane. If it was taken away on purpose, it disappears here 7 days after its last word."
		return p
	}
	var wrong, advice []string
	note := func(state partState, sentence, what string) {
		if badness[state] > badness[p.State] {
			p.State = state
		}
		wrong, advice = append(wrong, sentence), append(advice, what)
	}
	// How long ago is told by the router's own clock alone, which may differ from this one's.
	lastWord := r.ReportedOn.Add(-routerAge(r))
	switch {
	// One that starts over and over again is young each time, and has been seen for longer.
	case r.Revision == 0 && r.SentOn.Sub(r.StartedOn) < routerStarts && r.ReportedOn.Sub(r.SeenSince) < routerStarts:
		note(partUnknown, "It is starting, and had no snapshot yet when it last told of itself.", "Look again in half a minute.")
	case r.Revision == 0:
		note(partDown, "It has no snapshot yet and serves nobody.", "See its log for why it cannot get one: the token of --api-token-file needs the scope routers, or is an operator's.")
	case r.SnapshotError != "" && now.Sub(lastWord) > snapshotLate:
		note(partDegraded, fmt.Sprintf("It serves snapshot %d and cannot get a newer one: %s.", r.Revision, strings.TrimSuffix(r.SnapshotError, ".")), "See that it reaches this control plane; until then deployments and rollbacks do not reach it.")
	case r.Revision < newest && now.Sub(lastWord) > snapshotLate:
		note(partDegraded, fmt.Sprintf("It serves snapshot %d; the newest is %d.", r.Revision, newest), "See its log for why it does not take the newer one.")
	}
	switch full := float64(r.SpoolBytes) / float64(max(r.SpoolBytesMax, 1)); {
	case r.SpoolBytes > 0 && full > spoolNearlyFull:
		note(partDegraded, fmt.Sprintf("Its spool is %.0f%% full: Kafka does not take its events.", 100*full), "See to Kafka now: events that come when the spool is full are lost.")
	case r.SpoolBytes > 0:
		note(partDegraded, fmt.Sprintf("%s of events wait on its disk because Kafka does not take them.", bytesOf(r.SpoolBytes)), "See to Kafka. They are sent when it takes events again.")
	}
	if n := sumOfDrops(dropped); n > 0 && r.SentOn.Sub(r.DroppedOn) < dropRecent {
		note(partDegraded, fmt.Sprintf("It has lost %s since it started, the last %s ago.", counted(n, "event"), ago(r.SentOn, r.DroppedOn)), "The reasons are in docs/operations; queue_full and spool_full mean that Kafka took too little for too long.")
	}
	if r.ProducerIDsRefused {
		note(partDegraded, "Kafka gives it no producer ids, and may have an event twice whose confirmation was lost.", "Give its Kafka user the right WRITE on the topic, and on brokers before 2.8 IDEMPOTENT_WRITE on the cluster.")
	}
	if len(wrong) == 0 {
		p.Sentence = fmt.Sprintf("It serves snapshot %d, and Kafka takes its events.", r.Revision)
		return p
	}
	p.Sentence, p.Advice = strings.Join(wrong, " "), strings.Join(advice, " ")
	return p
}

// routerAge is how old the confirmation of a router's snapshot was when it reported, by
// the router's clock alone. It is 0 where nothing is known.
func routerAge(r *control.RouterState) time.Duration {
	if r.ConfirmedOn.IsZero() || r.SentOn.IsZero() {
		return 0
	}
	return max(0, r.SentOn.Sub(r.ConfirmedOn))
}

func sumOfDrops(dropped map[string]int64) (n int64) {
	for _, m := range dropped {
		n += m
	}
	return n
}

func deliveryPart(f *control.SystemFacts, now time.Time) partView {
	v := &deliveryView{Jobs: len(f.Delivery), Failing: []failingDelivery{}}
	p := partView{Kind: "logpush", Name: "Logpush", State: partOK, Delivery: v}
	var lag int64
	var oldest time.Time
	silent, starting := 0, 0
	aged := true // the age of what waits is known wherever something does
	for _, d := range f.Delivery {
		if d.Enabled && !d.FailingSince.IsZero() || !d.DisabledOn.IsZero() {
			v.Failing = append(v.Failing, failingDelivery{d.JobID, d.AccountID, d.Name, optional(d.FailingSince), optional(d.DisabledOn)})
		}
		if !d.Enabled {
			continue
		}
		v.Enabled++
		switch {
		case now.Sub(d.ReportedOn) > reportsLate && now.Sub(d.EnabledOn) > reportsLate:
			silent++
		case now.Sub(d.ReportedOn) > reportsLate:
			starting++
		default:
			lag += d.LagEvents
			aged = aged && (d.LagEvents == 0 || !d.OldestEventOn.IsZero())
			if !d.OldestEventOn.IsZero() && (oldest.IsZero() || d.OldestEventOn.Before(oldest)) {
				oldest = d.OldestEventOn
			}
		}
	}
	if v.Enabled > 0 && silent+starting == 0 {
		v.LagEvents = &lag
		if aged && !oldest.IsZero() {
			seconds := max(0, now.Sub(oldest).Seconds())
			v.LagSeconds = &seconds
		}
	}
	switch {
	case v.Enabled > 0 && silent == v.Enabled:
		p.State, p.Sentence = partDown, fmt.Sprintf("No process tells of any of the %s that are switched on.", counted(int64(v.Enabled), "job"))
		p.Advice = "Start an ingest process with the role logpush. Deliveries go on from where they stopped, as far back as Kafka keeps events."
	case len(v.Failing) > 0:
		p.State, p.Sentence = partDegraded, fmt.Sprintf("%s cannot deliver: %s.", counted(int64(len(v.Failing)), "job"), namesOf(v.Failing))
		p.Advice = fmt.Sprintf("Read the destination's own words in the health of each: tidegate jobs health %d --account %s.", v.Failing[0].JobID, v.Failing[0].AccountID)
	case silent > 0:
		p.State, p.Sentence = partDegraded, fmt.Sprintf("No process has told of %d of %s for a minute.", silent, counted(int64(v.Enabled), "job"))
		p.Advice = "See whether all processes with the role logpush run; after a move of partitions it is over in a minute."
	case v.Enabled == 0:
		p.Sentence = "No job is switched on."
	default:
		p.Sentence = fmt.Sprintf("Jobs that deliver: %d.", v.Enabled)
	}
	return p
}

// jobsNamed is how many jobs a sentence names.
const jobsNamed = 3

// namesOf the first jobs, by their ids and what people call them.
func namesOf(jobs []failingDelivery) string {
	names := make([]string, 0, jobsNamed+1)
	for i, j := range jobs {
		if i == jobsNamed {
			names = append(names, fmt.Sprintf("%d more", len(jobs)-i))
			break
		}
		name := strconv.FormatInt(j.JobID, 10)
		if j.Name != "" {
			name += " (" + j.Name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func rollbackPart(f *control.SystemFacts, now time.Time) partView {
	p := partView{Kind: "rollback", Name: "Rollback controller", State: partOK}
	if f.Rollback == nil || !now.Before(f.Rollback.ExpiresOn) {
		p.State, p.Sentence = partDown, "No process judges deployments: ramps stand still, and a bad version stays."
		p.Advice = "Start a jobs-api process with the role rollback, and see in its log why it does not take the lease."
		return p
	}
	p.Lease = &leaseView{f.Rollback.Holder, timestamp(f.Rollback.ExpiresOn)}
	host, _, _ := strings.Cut(f.Rollback.Holder, "/")
	p.Sentence = fmt.Sprintf("A process on %s judges deployments.", host)
	return p
}

func outboxPart(f *control.SystemFacts, now time.Time) partView {
	o := f.Outbox
	p := partView{Kind: "notifications", Name: "Notifications", State: partOK, Outbox: &outboxView{o.Waiting, optional(o.OldestOn), o.FailedToday}}
	const look = "The notifications of a script have what its targets answered; a policy's targets can be tested."
	switch {
	case o.Waiting > 0 && now.Sub(o.OldestOn) > outboxLate:
		p.State, p.Sentence, p.Advice = partDegraded, fmt.Sprintf("%s about decisions %s, the oldest for %s.", counted(o.Waiting, "message"), verb(o.Waiting, "waits", "wait"), ago(now, o.OldestOn)), look
	case o.FailedToday > 0:
		p.State, p.Sentence, p.Advice = partDegraded, fmt.Sprintf("%s about decisions %s given up within a day.", counted(o.FailedToday, "message"), verb(o.FailedToday, "was", "were")), look
	case o.Waiting > 0:
		p.Sentence = fmt.Sprintf("%s about decisions %s way.", counted(o.Waiting, "message"), verb(o.Waiting, "is on its", "are on their"))
	default:
		p.Sentence = "No message about a decision waits."
	}
	return p
}

// counted reads "1 event" or "7 events".
func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// verb is the form that agrees with what was counted.
func verb(n int64, one, several string) string {
	if n == 1 {
		return one
	}
	return several
}

// ago is a time span as people say it.
func ago(now, then time.Time) string {
	switch d := max(0, now.Sub(then)); {
	case d < 2*time.Minute:
		return counted(int64(d/time.Second), "second")
	case d < 2*time.Hour:
		return counted(int64(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return counted(int64(d/time.Hour), "hour")
	default:
		return counted(int64(d/(24*time.Hour)), "day")
	}
}

func bytesOf(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
