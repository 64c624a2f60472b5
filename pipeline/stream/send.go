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
	rest, err := p.deliver(ctx, []batch{b}, nil)
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
		bound := err == nil && b.id != nil
		if err == nil {
			err = p.sendSpooled(ctx, work, p.spool, b)
		}
		if err != nil {
			// A batch that is bound to a partition says nothing of the others.
			if !bound {
				p.away.Store(true)
			}
			p.trouble.warn(ctx, "drain the spool", err)
			_ = Sleep(ctx, Backoff(attempt)) // the loop looks at ctx
			attempt++
			continue
		}
		attempt = 0
		drained += b.events
		p.away.Store(false)
	}
}

// sendSpooled sends b, which next of s returned, and takes it off the spool. With an error
// b is still there, or what is left of it. If that is bound to partitions, the others come
// first then.
func (p *Producer) sendSpooled(ctx, work context.Context, s *spool, b batch) error {
	rest, err := p.deliver(work, []batch{b}, s)
	if err == nil {
		if err := s.took(b); err != nil {
			// It is sent, and remembered as such in memory.
			p.spoolTrouble(ctx, "note that a spooled batch was sent", err)
		}
		return nil
	}
	switch whole := len(rest) == 1 && rest[0].events == b.events; {
	case !whole: // parts of b: those that are sent must not be sent again
		if errReplace := s.replace(b, rest); errReplace != nil {
			p.repeatPossible(b.events) // it stays whole in the spool
			p.spoolTrouble(ctx, "spool what is left of a spooled batch", errReplace)
		}
	case rest[0].id != nil: // another partition may be well
		if errAside := s.setAside(rest[0]); errAside != nil {
			p.spoolTrouble(ctx, "set a spooled batch aside", errAside)
		}
	}
	return err
}

func (p *Producer) spoolTrouble(ctx context.Context, what string, err error) {
	p.metrics.errors.Add(ctx, 1, stageSpool)
	p.trouble.warn(ctx, what, err)
}

// deliver sends batches one after the other and returns those that are left when
// one fails. A batch that Kafka refuses for what is in it is halved until the
// event at fault is alone; that one is dropped. If s is not nil, the batch is the
// next of s.
func (p *Producer) deliver(ctx context.Context, batches []batch, s *spool) ([]batch, error) {
	for len(batches) > 0 {
		b := &batches[0]
		again := b.id != nil
		err := p.produce(ctx, b, s)
		switch {
		case err == nil:
			p.eventsOut.Add(uint64(b.events))
			p.bytesOut.Add(uint64(len(b.data)))
			batches = batches[1:]
		case isRefused(err):
			halves, errSplit := split(*b, err)
			if errSplit == nil && len(halves) > 0 {
				if again {
					p.repeatPossible(b.events)
				}
				batches, s = append(halves, batches[1:]...), nil
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
			return batches, err
		}
	}
	return nil, nil
}

// producerKept is how long a partition's leader remembers a producer at least, from the
// time of its latest event on: Kafka's default of producer.id.expiration.ms.
const producerKept = 24 * time.Hour

func (p *Producer) repeatPossible(events int) { p.eventsRepeatPossible.Add(uint64(events)) }

// produce tries once. If Kafka does not recognise an earlier try of b, b gets another
// identity.
func (p *Producer) produce(ctx context.Context, b *batch, s *spool) error {
	cluster, partitions, err := topicMetadata(ctx, p.client, p.cfg.Topic)
	if err != nil {
		return err
	}
	if b.id != nil && !b.id.isOf(cluster, partitions) {
		p.repeatPossible(b.events)
		p.unbind(ctx, b, s)
	}
	again := b.id != nil
	err = p.try(ctx, b, s, cluster, partitions)
	switch {
	case err == nil && again && time.Since(b.latest()) > producerKept:
		p.repeatPossible(b.events)
	case isUnrecognised(err):
		// Out of order means that the leader knows the producer, and b would be its latest:
		// it does not have b.
		if again && !errors.Is(err, kafka.OutOfOrderSequenceNumber) {
			p.repeatPossible(b.events)
		}
		p.trouble.warn(ctx, "send a batch under another producer id", err)
		p.unbind(ctx, b, s)
		err = p.try(ctx, b, s, cluster, partitions)
	}
	if b.id != nil && errors.Is(err, kafka.Unknown) {
		// The leader failed in the middle. It may have the batch, or have noted its
		// sequence without it. Under the same identity it might confirm what it does not
		// have.
		p.repeatPossible(b.events)
		p.unbind(ctx, b, s)
	}
	return err
}

// unbind takes b's identity away. If s is not nil, b is the next of s.
func (p *Producer) unbind(ctx context.Context, b *batch, s *spool) {
	b.bind(nil)
	p.note(ctx, s, nil)
}

// try sends b under its identity, which it gets if it has none.
func (p *Producer) try(ctx context.Context, b *batch, s *spool, cluster clusterID, partitions []kafka.Partition) error {
	if b.id != nil {
		_, err := p.produceTo(ctx, int(b.id.partition), *b)
		return err
	}
	partition, err := p.nextPartition(partitions)
	if err != nil {
		return err
	}
	used, err := p.session(ctx, cluster)
	if err != nil {
		return err
	}
	if used == nil {
		maybeWritten, err := p.produceTo(ctx, partition, *b)
		if maybeWritten && p.spool != nil {
			p.repeatPossible(b.events)
		}
		return err
	}
	id, ok := used.identity(int32(partition), b.events)
	if !ok {
		return p.try(ctx, b, s, cluster, partitions) // with another one
	}
	b.bind(id)
	p.note(ctx, s, id)
	if _, err := p.produceTo(ctx, partition, *b); err != nil {
		return err
	}
	used.next[id.partition] += int32(b.events)
	p.sessions.give(used)
	return nil
}

// note keeps the identity of the next batch of s, if there is such a spool.
func (p *Producer) note(ctx context.Context, s *spool, id *identity) {
	if s == nil {
		return
	}
	if err := s.note(id); err != nil {
		p.spoolTrouble(ctx, "note how a spooled batch is sent: if this process dies now, it may be sent twice", err)
	}
}

// session returns one to send a batch under, or nil when batches go without: because
// they are never sent again, or because Kafka refuses.
func (p *Producer) session(ctx context.Context, cluster clusterID) (*session, error) {
	if p.spool == nil {
		return nil, nil
	}
	used, refused, err := p.sessions.take(ctx, cluster)
	if refused != nil {
		p.cfg.Logger.WarnContext(ctx, "Kafka refuses producer ids, so it may have events twice whose confirmation is lost: allow IDEMPOTENT_WRITE on the cluster, "+
			"which brokers before 2.8 ask for, or WRITE on the topic", "error", refused.Error())
	}
	return used, err
}

func (p *Producer) produceTo(ctx context.Context, partition int, b batch) (maybeWritten bool, err error) {
	started := time.Now()
	maybeWritten, err = produceBatch(ctx, p.client, p.cfg.Topic, partition, b)
	p.metrics.produceSeconds.Record(ctx, time.Since(started).Seconds())
	return maybeWritten, err
}

// nextPartition returns the partitions in turn, one a batch, without those that have no
// leader.
func (p *Producer) nextPartition(of []kafka.Partition) (int, error) {
	ids, err := led(p.cfg.Topic, of)
	if err != nil {
		return 0, err
	}
	return ids[p.partition.Add(1)%uint64(len(ids))], nil
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
