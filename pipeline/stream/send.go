package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// inFlightMax is how many batches may be on their way to Kafka at once. Batches
// that find no place within Linger go to the spool, so this also bounds what a
// crash can lose while Kafka is slow.
const inFlightMax = 4

// Run sends what Emit queues until ctx ends. Then it takes nothing new, sends
// what is queued for at most StopTimeout, leaves the rest in the spool, and
// returns nil, or an error if the spool could not be closed. Call it once.
func (p *Producer) Run(ctx context.Context) error {
	defer closeClient(p.client)

	// work ends StopTimeout after ctx.
	work, hardStop := context.WithCancel(context.WithoutCancel(ctx))
	defer hardStop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(p.cfg.StopTimeout, hardStop) })()

	ready := make(chan batch)
	var workers sync.WaitGroup
	for range inFlightMax {
		workers.Go(func() {
			for b := range ready {
				p.send(work, b)
			}
		})
	}
	if p.spool != nil {
		workers.Go(func() { p.drain(ctx, work) })
		if p.cfg.SpoolFsync > FsyncAlways {
			workers.Go(func() { p.keepSynced(ctx) })
		}
		workers.Go(func() { p.adopt(ctx, work) })
	}
	p.collect(ctx, work, ready)
	close(ready)
	workers.Wait()
	if p.spool == nil {
		return nil
	}
	if err := p.spool.close(); err != nil {
		return fmt.Errorf("close spool %s: %w", p.cfg.SpoolDir, err)
	}
	return nil
}

// collect encodes the batches of the queue and hands them on: when Linger has passed
// since the first event, or when there is enough for one. It returns when ctx has ended
// and the queue is empty.
func (p *Producer) collect(ctx, work context.Context, ready chan<- batch) {
	linger := time.NewTimer(0)
	defer linger.Stop()
	var spare []*records
	for last := false; !last; {
		select {
		case <-p.wake:
			linger.Reset(p.cfg.Linger)
			select {
			case <-linger.C:
			case <-p.full:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		last = ctx.Err() != nil
		taken := p.take(spare, last)
		for i, r := range taken {
			taken[i] = nil
			b, size := r.encode(), r.size
			r.release()
			p.handOver(work, b, ready)
			p.release(b.events, size)
		}
		spare = taken[:0]
	}
}

// handOver gives b to a sender, or to the spool when Kafka is away or slow.
func (p *Producer) handOver(work context.Context, b batch, ready chan<- batch) {
	if !p.away.Load() {
		timer := time.NewTimer(p.cfg.Linger)
		defer timer.Stop()
		select {
		case ready <- b:
			return
		case <-timer.C:
		case <-work.Done():
		}
	}
	p.store(work, b)
}

// send tries once. The spool is where a batch waits for its next chance.
func (p *Producer) send(ctx context.Context, b batch) {
	rest, err := p.deliver(ctx, []batch{b})
	if err == nil {
		return
	}
	if p.spool == nil {
		p.trouble.warn(ctx, "send a batch, dropping it", err)
	} else {
		p.away.Store(true)
		p.trouble.warn(ctx, "send a batch, spooling it", err)
	}
	for _, b := range rest {
		p.store(ctx, b)
	}
}

// store spools b, or drops it.
func (p *Producer) store(ctx context.Context, b batch) {
	if p.spool == nil {
		p.drop(droppedAway, b.events)
		return
	}
	err := p.spool.append(b)
	if err == nil {
		p.eventsSpooled.Add(uint64(b.events))
		return
	}
	reason := droppedSpoolFull
	if !errors.Is(err, errSpoolFull) {
		reason = droppedSpoolError
		p.metrics.errors.Add(ctx, 1, stageSpool)
	}
	p.drop(reason, b.events)
	p.trouble.warn(ctx, "drop a batch", err, "events", b.events, "reason", dropReasons[reason])
	// Kafka is the only way out now: let the next batch try.
	p.away.Store(false)
}

// drain sends what is in the spool, oldest first, until ctx ends. While Kafka is
// away it is the only one to ask, and its first success lets new batches go
// straight to Kafka again.
func (p *Producer) drain(ctx, work context.Context) {
	drained := 0
	for attempt := 0; ctx.Err() == nil; {
		b, ok, lost, err := p.spool.next()
		p.damaged(ctx, p.cfg.SpoolDir, lost)
		if err == nil && !ok {
			if drained > 0 {
				p.cfg.Logger.InfoContext(ctx, "the spool is empty again", "events_sent", drained)
			}
			drained = 0
			// Nothing shows that Kafka is there, but nobody else would find out.
			p.away.Store(false)
			select {
			case <-p.spool.ready:
			case <-ctx.Done():
			}
			continue
		}
		if err == nil {
			err = p.sendSpooled(ctx, work, b)
		}
		if err != nil {
			p.trouble.warn(ctx, "drain the spool", err)
			_ = Sleep(ctx, Backoff(attempt)) // the loop looks at ctx
			attempt++
			continue
		}
		attempt = 0
		drained += b.events
	}
}

// sendSpooled repeats until b is settled or ctx ends, and takes it off the spool.
// An error means that b is still there.
func (p *Producer) sendSpooled(ctx, work context.Context, b batch) error {
	rest := []batch{b}
	for attempt := 0; ; attempt++ {
		var err error
		if rest, err = p.deliver(work, rest); err == nil {
			break
		}
		p.away.Store(true)
		p.trouble.warn(ctx, "send a spooled batch", err)
		if err := Sleep(ctx, Backoff(attempt)); err != nil {
			return err
		}
	}
	p.away.Store(false)
	if err := p.spool.took(b); err != nil {
		// It is sent, and remembered as such in memory.
		p.metrics.errors.Add(ctx, 1, stageSpool)
		p.trouble.warn(ctx, "note that a spooled batch was sent", err)
	}
	return nil
}

// deliver sends batches one after the other and returns those that are left when
// one fails. A batch that Kafka refuses for what is in it is halved until the
// event at fault is alone; that one is dropped.
func (p *Producer) deliver(ctx context.Context, batches []batch) ([]batch, error) {
	for len(batches) > 0 {
		b := batches[0]
		maybeWritten, err := p.produce(ctx, b)
		switch {
		case err == nil:
			p.eventsOut.Add(uint64(b.events))
			p.bytesOut.Add(uint64(len(b.data)))
			batches = batches[1:]
		case isRefused(err):
			halves, errSplit := split(b, err)
			if errSplit == nil && len(halves) > 0 {
				batches = append(halves, batches[1:]...)
				continue
			}
			reason := droppedRefused
			if isTooLarge(err) {
				reason = droppedTooLarge
			}
			p.drop(reason, b.events)
			p.trouble.warn(ctx, "drop what Kafka refuses", errors.Join(err, errSplit), "events", b.events)
			batches = batches[1:]
		default:
			p.metrics.errors.Add(ctx, 1, stageProduce)
			if maybeWritten {
				p.eventsRepeatPossible.Add(uint64(b.events))
			}
			return batches, err
		}
	}
	return nil, nil
}

func (p *Producer) produce(ctx context.Context, b batch) (maybeWritten bool, err error) {
	partition, err := p.nextPartition(ctx)
	if err != nil {
		return false, err
	}
	started := time.Now()
	maybeWritten, err = produceBatch(ctx, p.client, p.cfg.Topic, partition, b)
	p.metrics.produceSeconds.Record(ctx, time.Since(started).Seconds())
	return maybeWritten, err
}

// split returns two halves of b, or none when b is a single event, or when the
// fault is this machine's clock, which all events have in common.
func split(b batch, fault error) ([]batch, error) {
	if b.events < 2 || errors.Is(fault, kafka.InvalidTimestamp) {
		return nil, nil
	}
	events, schema, err := decode(b)
	if err != nil || len(events) < 2 {
		return nil, err
	}
	var halves []batch
	for _, part := range [][]event{events[:len(events)/2], events[len(events)/2:]} {
		halves = append(halves, encode(part, schema))
	}
	return halves, nil
}
