package ingest

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"tidegate/pipeline/stream"
)

func TestANameKeepsItsPlaceWhileItIsInUse(t *testing.T) {
	n := newNames(3)
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	f := func(account, script string, minutes int, want bool) {
		t.Helper()
		n.tight(nil, at(minutes)) // as before every block
		if got := n.take(cell{account, script, "v", "ok"}, at(minutes)); got != want {
			t.Errorf("%s of account %s after %d min: there is a place: %v, want %v", script, account, minutes, got, want)
		}
	}
	for _, script := range []string{"a", "b", "c"} {
		f("1", script, 0, true)
	}
	f("1", "d", 0, false)
	f("1", "a", 50, true) // has one
	f("2", "d", 50, true) // of others
	f("1", "d", 59, false)
	n.use(map[cell]struct{}{{"1", "b", "v", "ok"}: {}}, at(59))
	f("1", "d", 62, true) // c's
	f("1", "e", 62, false)
	f("1", "b", 62, true)
	if most := n.most(at(62)); most != 3 || n.all != 4 {
		t.Errorf("%d names are in use of an account and %d in all, want 3 and 4", most, n.all)
	}
	if n.most(at(200)) != 0 || n.all != 0 || len(n.accounts) != 0 {
		t.Errorf("hours later %+v are in use", n.accounts)
	}
}

func TestNamesOfAllAccountsHaveABound(t *testing.T) {
	n := newNames(NamesMax)
	k := func(account string, i int) cell { return cell{account, strconv.Itoa(i), "v", "ok"} }
	for i := range namesOfAllMax {
		if !n.take(k("1", i), noon) {
			t.Fatalf("there is no place for name %d", i)
		}
	}
	f := func(account string, i int, want bool) {
		t.Helper()
		if n.take(k(account, i), noon) != want {
			t.Errorf("there is a place for name %d of account %s: %v, want %v", i, account, !want, want)
		}
	}
	f("1", namesOfAllMax, false)
	f("1", 7, true)
	for i := range namesFree {
		f("small", i, true)
	}
	f("small", namesFree, false)
	if !n.tight(nil, noon) {
		t.Error("no bound is near")
	}
}

func TestAccountsHaveABound(t *testing.T) {
	n := newNames(NamesDefault)
	for i := range accountsInUseMax {
		if tight := n.tight(nil, noon); tight != (i > accountsInUseMax-accountsMax) {
			t.Fatalf("with %d accounts a bound is near: %v", i, tight)
		}
		if !n.take(cell{account: strconv.Itoa(i)}, noon) {
			t.Fatalf("there is no place for account %d", i)
		}
	}
	if n.take(cell{account: "another"}, noon) {
		t.Error("there is a place for another account")
	}
	if !n.take(cell{account: "7", script: "new"}, noon) {
		t.Error("there is no place for a name of an account that is in use")
	}
}

// A block that may pass a bound is decided on before it is stored, one that cannot is not.
func TestABoundIsNearABlockBeforeIt(t *testing.T) {
	n := newNames(NamesMin)
	block, others := []stream.Record{{Account: "2"}, {Account: "1"}}, []stream.Record{{Account: "2"}, {Account: "3"}}
	for i := range NamesMin {
		if tight := n.tight(block, noon); tight != (i > NamesMin-cellsMax) {
			t.Fatalf("with %d names a bound is near: %v", i, tight)
		}
		if n.tight(others, noon) {
			t.Fatalf("with %d names of another account a bound is near", i)
		}
		n.use(map[cell]struct{}{{"1", strconv.Itoa(i), "", ""}: {}}, noon)
	}
}

func TestAPlanTellsWhichRecordsAreRefused(t *testing.T) {
	f := func(offsets ...int64) mark {
		t.Helper()
		const begin = 1_000
		of := refused{begin: begin}
		want := map[int64]bool{}
		for _, offset := range offsets {
			of.add(begin + offset)
			want[begin+offset] = true
		}
		planned := mark{plan{Begin: begin, End: begin + refusedMax, At: noon.UnixMilli(), Refused: of.String()}, noon.UnixMilli()}
		m, err := parseMark(planned.String())
		if err != nil || m != planned {
			t.Fatalf("%+v came back as %+v, %v", planned, m, err)
		}
		got, err := m.refused()
		if err != nil {
			t.Fatal(err)
		}
		for offset := int64(0); offset < begin+refusedMax+100; offset++ {
			if got.has(offset) != want[offset] {
				t.Fatalf("of %d offsets %d is refused: %v", len(offsets), offset, !want[offset])
			}
		}
		return planned
	}
	f()
	f(0)
	f(7, 8, 4_321)
	f(refusedMax - 1)
	m := f(seq(0, refusedMax)...)
	m.Begin, m.End = 1<<62, 1<<62+refusedMax
	const kafkaMetadataMax = 4096
	if n := len(m.String()); n > kafkaMetadataMax {
		t.Errorf("the longest mark has %d characters", n)
	}
}

// The next reader knows no names, and refuses what the plan of the block refuses all the
// same: nothing is in both tables, nor in none.
func TestABlockThatRefusesNamesIsRepeatedAsItWas(t *testing.T) {
	f := func(point string, nth int) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			db, c := openDB(t, serverAddr(t)), startKafka(t, 1)
			const names, rows = 5, 20
			first, second := make([][]byte, rows), make([][]byte, rows)
			for i := range rows {
				first[i], second[i] = named(fmt.Sprint("known-", i%names), "v", noon), named(fmt.Sprint("known-", i%names), "v", noon)
				if i%2 == 1 {
					second[i] = named(fmt.Sprint("new-", i), "v", noon)
				}
			}
			c.produce(0, first...)
			c.produce(0, second...)
			d := newDeath(point, nth)
			in := newIngest(t, mortalWriter{d, db}, smallBlocks)
			in.names.max = names
			stop := c.run(func(ctx context.Context, p stream.Partition) error {
				return in.HandlePartition(ctx, mortalPartition{d, p})
			})
			eventually(t, "it died", d.dead.Load)
			stop()
			c.run(newIngest(t, db, smallBlocks).HandlePartition)
			c.wantExactly(db, rows/2)
		})
	}
	// The first block refuses nothing.
	f("after the plan", 2)
	f("after the quarantine", 1)
	f("before the insert", 2)
	f("after the insert", 2)
	f("before the commit", 2)
}
