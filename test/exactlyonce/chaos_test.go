package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/test/platform"
	"tidegate/test/real/kafka"
)

const (
	roundsEveryDay = 10
	roundsLong     = 100
	partitionsMax  = 12
)

// chaos is everything that can be broken.
type chaos struct {
	t       *testing.T
	broker  *broker
	tables  *tables
	ingests *ingests
	traffic *load
}

// fault breaks something and mends it again before it returns. It takes its chances
// from dice.
type fault struct {
	name  string
	needs func(*chaos) string // why it cannot be had here; "" if it can
	run   func(*chaos, *rand.Rand)
}

func everywhere(*chaos) string { return "" }

func ownBroker(c *chaos) string {
	if c.broker.process == nil {
		return "there is no broker that is a process of ours"
	}
	return ""
}

func ownCluster(c *chaos) string {
	if c.broker.cluster == nil {
		return "there is no cluster of ours"
	}
	return ""
}

func ownEngine(c *chaos) string {
	if c.tables.engine == nil {
		return externalClickHouse + " names a server that is not ours to break"
	}
	return ""
}

var faults = []fault{
	{"an ingest is killed", everywhere, func(c *chaos, dice *rand.Rand) { c.killIngest(dice) }},
	{"all ingests are killed", everywhere, func(c *chaos, dice *rand.Rand) {
		var all sync.WaitGroup
		for i := range c.ingests.list {
			pause := upTo(dice, time.Second)
			all.Go(func() { c.replace(i, pause) })
		}
		all.Wait()
	}},
	{"ingests are restarted one after the other", everywhere, (*chaos).restartIngests},
	{"an ingest sleeps for longer than its session", everywhere, func(c *chaos, dice *rand.Rand) { c.sleep(dice, func() {}) }},
	{"an ingest falls asleep over a block that is half stored", everywhere, func(c *chaos, dice *rand.Rand) {
		heal := c.refuse(dice)
		nap(dice, 200*time.Millisecond, time.Second)
		c.sleep(dice, heal)
	}},
	{"ClickHouse refuses half of each block", everywhere, func(c *chaos, dice *rand.Rand) {
		heal := c.refuse(dice)
		nap(dice, 500*time.Millisecond, 3*time.Second)
		heal()
	}},
	{"an ingest is killed over a block that is half stored", everywhere, func(c *chaos, dice *rand.Rand) {
		heal := c.refuse(dice)
		nap(dice, 500*time.Millisecond, time.Second)
		c.killIngest(dice)
		nap(dice, 0, time.Second)
		heal()
	}},
	{"the topic grows", everywhere, func(c *chaos, _ *rand.Rand) {
		eventually(c.t, "the topic grows", func() error {
			if n, err := c.broker.partitions(c.t.Context()); err != nil || n >= partitionsMax {
				return err
			}
			return c.broker.grow(c.t.Context())
		})
	}},
	{"the engine is killed", ownEngine, func(c *chaos, _ *rand.Rand) { c.killEngine() }},
	{"the engine is killed over a block that is half stored", ownEngine, func(c *chaos, dice *rand.Rand) {
		heal := c.refuse(dice)
		nap(dice, 200*time.Millisecond, time.Second)
		c.killEngine()
		heal()
	}},
	{"the engine hangs, and an ingest sleeps", ownEngine, func(c *chaos, dice *rand.Rand) {
		pid := c.tables.engine.Pid()
		c.signal(pid, syscall.SIGSTOP)
		nap(dice, 200*time.Millisecond, time.Second)
		c.sleep(dice, func() { c.signal(pid, syscall.SIGCONT) })
	}},
	{"Kafka forgets the group's offsets", everywhere, func(c *chaos, _ *rand.Rand) { c.forget(c.broker.forgetOffsets) }},
	{"somebody sets the group's offsets back", everywhere, func(c *chaos, dice *rand.Rand) {
		back := 1 + dice.Int64N(500)
		c.forget(func(ctx context.Context) error { return c.broker.setBack(ctx, back) })
	}},
	{"one of the brokers is killed", ownCluster, func(c *chaos, dice *rand.Rand) {
		c.loseBroker(dice, c.broker.cluster.Kill, func(id int) error { return c.broker.cluster.Restart(c.t.Context(), id) })
	}},
	{"one of the brokers hangs", ownCluster, func(c *chaos, dice *rand.Rand) {
		c.loseBroker(dice, c.broker.cluster.Pause, c.broker.cluster.Resume)
	}},
	{"the brokers are killed one after the other", ownCluster, func(c *chaos, _ *rand.Rand) {
		for _, id := range c.broker.cluster.Brokers() {
			if err := errors.Join(c.broker.cluster.Kill(id), c.broker.cluster.Restart(c.t.Context(), id)); err != nil {
				c.t.Error(err)
			}
		}
	}},
	{"the broker is killed", ownBroker, func(c *chaos, dice *rand.Rand) {
		c.broker.process.Kill()
		nap(dice, 0, 2*time.Second)
		if err := c.broker.start(); err != nil {
			c.t.Error(err)
		}
	}},
	{"the broker hangs", ownBroker, func(c *chaos, dice *rand.Rand) {
		pid := c.broker.process.Pid()
		c.signal(pid, syscall.SIGSTOP)
		nap(dice, time.Second, 7*time.Second) // requests give up after 5 s
		c.signal(pid, syscall.SIGCONT)
	}},
}

// TestExactlyOnceUnderChaos is the promise: whatever is killed, hangs, refuses or comes
// back late, each record of Kafka is in the tables once, and in each rollup once.
func TestExactlyOnceUnderChaos(t *testing.T) {
	runChaos(t, func() *broker { return startBroker(t, 4) })
}

// The same on a cluster of three, of which one is lost now and then: leaders of
// partitions and the group's coordinator move, and come back.
func TestExactlyOnceUnderChaosOfACluster(t *testing.T) {
	cluster := kafka.ForTest(t)
	runChaos(t, func() *broker { return startOnCluster(t, cluster, 4) })
}

func runChaos(t *testing.T, start func() *broker) {
	seed := number(t, seedVariable, uint64(time.Now().UnixNano())) // #nosec G115 -- any seed will do
	rounds := int(number(t, longRounds, roundsEveryDay))           // #nosec G115 -- a few
	if os.Getenv(longRounds) != "" {
		rounds = max(rounds, roundsLong)
	}
	t.Logf("%d rounds; %s=%d repeats the choices", rounds, seedVariable, seed)
	dice := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- repeatable on purpose

	c := &chaos{t: t, broker: start(), tables: startTables(t)}
	c.ingests = startIngests(t, 3, c.broker, c.tables)
	c.armTables()
	c.traffic = startLoad(t, c.broker, seed)
	truth := &topic{broker: c.broker, reader: c.broker.reader(t), versions: map[string]tally{}}
	deck := c.deck(dice)

	for round := range rounds {
		if round%len(deck) == 0 {
			dice.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		names := c.round(deck[round%len(deck)], dice)
		c.traffic.paused(func() {
			eventually(t, fmt.Sprintf("the tables agree with Kafka after round %d: %s", round+1, names), func() error {
				return c.agree(truth)
			})
		})
		t.Logf("round %d: %s: %d records, %d in quarantine", round+1, names, truth.records, truth.quarantined)
	}
	c.traffic.stop()
	eventually(t, "the last records are in the tables", func() error { return c.agree(truth) })
	if err := c.ingests.stop(); err != nil {
		t.Error(err)
	}
	if err := c.agree(truth); err != nil {
		t.Errorf("after every ingest has ended: %v", err)
	}
	c.verify(truth)
	if acked, most := c.traffic.acked.Load(), c.traffic.acked.Load()+c.traffic.unknown.Load(); truth.records < acked || truth.records > most {
		t.Errorf("Kafka holds %d records: %d were acknowledged and %d sent", truth.records, acked, most)
	}
	t.Logf("%d records; %d blocks were repeated by another reader, %d complaints of blocks that could not be stored",
		truth.records, c.ingests.said("repeating the block"), c.ingests.said("could not be stored"))
}

// agree holds the tables against Kafka once everything is settled.
func (c *chaos) agree(truth *topic) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	if err := c.broker.unsettled(ctx); err != nil {
		return err
	}
	if err := truth.read(ctx); err != nil {
		return err
	}
	return truth.compare(ctx, c.tables)
}

// deck are the faults that can be had here.
func (c *chaos) deck(dice *rand.Rand) []fault {
	var deck []fault
	for _, f := range faults {
		if why := f.needs(c); why != "" {
			c.t.Logf("left out: %s: %s", f.name, why)
			continue
		}
		deck = append(deck, f)
	}
	return deck
}

// round runs a fault, and often the death of an ingest beside it.
func (c *chaos) round(f fault, dice *rand.Rand) (names string) {
	nap(dice, 300*time.Millisecond, 1500*time.Millisecond) // a random moment is the point
	beside := dice.IntN(3) == 0
	other := rand.New(rand.NewPCG(dice.Uint64(), 0)) // #nosec G404 -- repeatable on purpose
	var both sync.WaitGroup
	both.Go(func() { f.run(c, dice) })
	if beside {
		names = ", and an ingest is killed"
		both.Go(func() {
			nap(other, 0, 3*time.Second)
			c.killIngest(other)
		})
	}
	both.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
	return f.name + names
}

func (c *chaos) killIngest(dice *rand.Rand) {
	c.replace(dice.IntN(len(c.ingests.list)), upTo(dice, time.Second))
}

// replace kills an ingest and starts another one after a pause.
func (c *chaos) replace(i int, pause time.Duration) {
	p := c.ingests.take(i)
	if p == nil {
		return // another fault has it in hand
	}
	p.Kill()
	time.Sleep(pause)
	c.ingests.start(i)
}

func (c *chaos) restartIngests(*rand.Rand) {
	for i := range c.ingests.list {
		p := c.ingests.take(i)
		if p == nil {
			continue
		}
		if err := p.Terminate(15 * time.Second); err != nil {
			c.t.Errorf("stop ingest %d: %v", i, err)
		}
		c.ingests.start(i)
	}
}

// forget ends all ingests as an operator would, does something to the group's offsets,
// and starts them again. What a kill left half done is done first: with its offsets Kafka
// loses which block that is (docs/design.md, section 7).
func (c *chaos) forget(do func(context.Context) error) {
	taken := make([]*platform.Process, len(c.ingests.list))
	for i := range taken {
		eventually(c.t, fmt.Sprintf("nothing else breaks ingest %d", i), func() error {
			if taken[i] = c.ingests.take(i); taken[i] == nil {
				return errors.New("something does")
			}
			return nil
		})
	}
	c.traffic.paused(func() {
		eventually(c.t, "no block is open", func() error { return c.broker.openBlocks(c.t.Context()) })
		for i, p := range taken {
			if err := p.Terminate(15 * time.Second); err != nil {
				c.t.Errorf("stop ingest %d: %v", i, err)
			}
		}
		eventually(c.t, "the group's offsets are changed", func() error { return do(c.t.Context()) })
	})
	for i := range taken {
		c.ingests.start(i)
	}
}

// loseBroker takes one of the brokers away for about as long as the others need to notice.
func (c *chaos) loseBroker(dice *rand.Rand, lose, restore func(id int) error) {
	id := 1 + dice.IntN(len(c.broker.cluster.Brokers()))
	if err := lose(id); err != nil {
		c.t.Error(err)
	}
	nap(dice, time.Second, 8*time.Second)
	if err := restore(id); err != nil {
		c.t.Error(err)
	}
}

// sleep stops an ingest until the others have its partitions and went on with them,
// and wakes it. Meanwhile is called while it sleeps.
func (c *chaos) sleep(dice *rand.Rand, meanwhile func()) {
	i := dice.IntN(len(c.ingests.list))
	length := sessionTimeout + sessionTimeout/2 + upTo(dice, 2*sessionTimeout)
	p := c.ingests.take(i)
	if p == nil {
		meanwhile()
		return
	}
	c.signal(p.Pid(), syscall.SIGSTOP)
	meanwhile()
	time.Sleep(length)
	c.signal(p.Pid(), syscall.SIGCONT)
	c.ingests.give(i, p)
}

func (c *chaos) signal(pid int, s syscall.Signal) {
	if err := signalTo(pid, s); err != nil {
		c.t.Error(err)
	}
}

func (c *chaos) killEngine() {
	pid := c.tables.engine.Pid()
	c.signal(pid, syscall.SIGKILL)
	eventually(c.t, "another engine runs", func() error {
		if now := c.tables.engine.Pid(); now == 0 || now == pid {
			return errors.New("not yet")
		}
		return nil
	})
}

// armTables waits for the tables and adds views beside those of the rollups, so that
// there are some to fail before and after them.
func (c *chaos) armTables() {
	c.tables.must(c.t, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = 'version_rates_1h_others_view'")
	for i := range 3 { // their places among the views are the engine's choice
		c.tables.must(c.t, fmt.Sprintf("CREATE TABLE IF NOT EXISTS chaos_%d (n Int64) ENGINE = MergeTree ORDER BY n", i))
		c.tables.must(c.t, fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS chaos_view_%d TO chaos_%d AS SELECT kafka_offset AS n FROM trace_events", i, i))
	}
}

// refuse makes ClickHouse refuse blocks in the middle until heal: some tables have them
// by then, and some have not.
func (c *chaos) refuse(dice *rand.Rand) (heal func()) {
	table := []string{"version_rates_1s", "version_rates_1m", "version_rates_1h", "chaos_0", "chaos_1", "chaos_2"}[dice.IntN(6)]
	if dice.IntN(2) == 0 {
		column := "requests"
		if strings.HasPrefix(table, "chaos") {
			column = "n"
		}
		c.tables.must(c.t, "ALTER TABLE "+table+" ADD CONSTRAINT IF NOT EXISTS broken CHECK "+column+" < 0")
		return func() { c.tables.must(c.t, "ALTER TABLE "+table+" DROP CONSTRAINT IF EXISTS broken") }
	}
	c.tables.must(c.t, "DETACH TABLE IF EXISTS "+table)
	return func() { c.tables.must(c.t, "ATTACH TABLE IF NOT EXISTS "+table) }
}

// nap waits for a time between the two, by chance.
func nap(dice *rand.Rand, least, most time.Duration) { time.Sleep(least + upTo(dice, most-least)) }

func upTo(dice *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(most)))
}

// number reads a variable that holds one, if it is set to a number.
func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q: it must be a number", variable, text)
	}
	return n
}
