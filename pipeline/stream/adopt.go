package stream

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	// adoptInterval is how often the folders of others are looked at.
	adoptInterval = time.Second
	// adoptPeriod bounds how long a folder is held before others get a chance at it: a
	// process that starts may want it for its own. It waits for ownPatience, so what is on
	// its way to a slow Kafka is given up at adoptPeriodMax, and keeps its identity.
	adoptPeriod    = 3 * time.Second
	adoptPeriodMax = 5 * time.Second
	ownPatience    = 6 * time.Second
	ownPoll        = 20 * time.Millisecond
)

// openOwnSpool opens the producer's folder. One that another process may have adopted
// is waited for.
func openOwnSpool(cfg *ProducerConfig) (*spool, error) {
	var patience time.Duration
	if len(cfg.SpoolOthers) > 0 {
		patience = ownPatience
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(ownPoll) {
		s, err := openSpool(cfg.SpoolDir, cfg.SpoolBytesMax)
		if err == nil {
			s.tellKept(cfg.Logger)
			return s, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, err
		}
	}
}

// adopt sends what processes that have ended left in their folders, until ctx ends. It
// leaves Kafka alone while that is away; the drain of the own spool finds out.
func (p *Producer) adopt(ctx, work context.Context) {
	for ctx.Err() == nil {
		for _, dir := range p.cfg.SpoolOthers {
			if p.away.Load() {
				break
			}
			if err := p.adoptFrom(ctx, work, dir); err != nil {
				p.metrics.errors.Add(ctx, 1, stageSpool)
				p.trouble.warn(ctx, "send what another process left in its spool", err, "dir", dir)
			}
		}
		_ = Sleep(ctx, adoptInterval) // the loop looks at ctx
	}
}

func (p *Producer) adoptFrom(ctx, work context.Context, dir string) (err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || !slices.ContainsFunc(files, isSegment) {
		return err
	}
	s, err := openSpool(dir, p.cfg.SpoolBytesMax)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil // its process lives, and sends it itself
	}
	if err != nil {
		return err
	}
	s.tellKept(p.cfg.Logger)
	p.adopted.Store(s)
	sent := 0
	defer func() {
		p.adopted.Store(nil)
		err = errors.Join(err, s.close())
		if sent > 0 {
			p.cfg.Logger.InfoContext(ctx, "sent what another process left in its spool", "dir", dir, "events_sent", sent)
		}
	}()
	work, cancel := context.WithTimeout(work, adoptPeriodMax)
	defer cancel()
	for until := time.Now().Add(adoptPeriod); ctx.Err() == nil && time.Now().Before(until); {
		b, ok, lost, err := s.next()
		p.damaged(ctx, dir, lost)
		if err != nil || !ok {
			return err
		}
		if err := p.sendSpooled(ctx, work, s, b); err != nil {
			return err
		}
		sent += b.events
	}
	return nil
}

// damaged counts what a spool has lost.
func (p *Producer) damaged(ctx context.Context, dir string, lost damage) {
	if lost.bytes == 0 {
		return
	}
	p.drop(droppedSpoolCorrupt, lost.events)
	p.spoolDamagedBytes.Add(uint64(lost.bytes))
	p.cfg.Logger.WarnContext(ctx, "the spool was damaged, perhaps by a crash", "dir", dir,
		"lost_bytes", lost.bytes, "lost_events_known", lost.events)
}
