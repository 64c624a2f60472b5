package sequential

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(1, math.Abs(b)) }

// direct computes LogE by its definition: a sum over alternatives of products, without
// logarithms of sums.
func direct(observations [][3]float64) float64 {
	e := keptAfter(1)
	for i := range logTheta {
		part := (1 - keptAfter(1)) * math.Exp(logWeight[i])
		for _, o := range observations {
			x, n, q := o[0], o[1], o[2]
			part *= math.Exp(x*logTheta[i]) / math.Pow(1-q+q*math.Exp(logTheta[i]), n)
		}
		e += part
	}
	return math.Log(e)
}

func TestAddIsTheLikelihoodRatio(t *testing.T) {
	f := func(observations ...[3]float64) {
		t.Helper()
		test := New(0.001)
		for _, o := range observations {
			if !test.Add(o[0], o[1], o[2]) {
				t.Fatalf("Add(%v) is refused", o)
			}
		}
		if got, want := test.LogE(), direct(observations); !near(got, want) {
			t.Errorf("LogE after %v = %v, want %v", observations, got, want)
		}
	}
	f()
	f([3]float64{1, 1, 0.1})
	f([3]float64{0, 30, 0.1})
	f([3]float64{3, 4, 0.1}, [3]float64{0, 2, 0.5}, [3]float64{7, 20, 0.25})
	f([3]float64{0.25, 1, 0.02})
	f([3]float64{0, 0, 0.3}, [3]float64{5, 5, 1}, [3]float64{0, 9, 0})
}

// Trials together are as good as one by one.
func TestAddOfManyIsManyAdds(t *testing.T) {
	one, many := New(0.01), New(0.01)
	for range 3 {
		one.Add(1, 1, 0.2)
		one.Add(0, 1, 0.2)
	}
	many.Add(3, 6, 0.2)
	if !near(one.LogE(), many.LogE()) {
		t.Errorf("six adds give %v, one of six %v", one.LogE(), many.LogE())
	}
}

// For hits and misses AddMean is Add, and in between it is never weaker.
func TestAddMeanIsNeverWeakerThanAdd(t *testing.T) {
	for _, q := range []float64{0.001, 0.1, 0.5, 0.9} {
		for m := 0.0; m <= 1; m += 0.125 {
			a, b := New(0.01), New(0.01)
			a.Add(m, 1, q)
			b.AddMean(m, q)
			if b.LogE() < a.LogE()-1e-12 || (m == 0 || m == 1) && !near(a.LogE(), b.LogE()) {
				t.Errorf("mean %v at q %v: AddMean %v, Add %v", m, q, b.LogE(), a.LogE())
			}
		}
	}
}

// What cannot be counted changes nothing, and is said to be so.
func TestRefusedEvidenceChangesNothing(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	test := New(0.001)
	test.Add(2, 3, 0.1)
	f := func(x, n, q float64) {
		t.Helper()
		before := test
		if test.Add(x, n, q) {
			t.Errorf("Add(%v, %v, %v) is taken", x, n, q)
		}
		if test != before {
			t.Errorf("Add(%v, %v, %v) changed the test", x, n, q)
		}
		if n == 1 && test.AddMean(x, q) {
			t.Errorf("AddMean(%v, %v) is taken", x, q)
		}
		if test != before {
			t.Errorf("AddMean(%v, %v) changed the test", x, q)
		}
	}
	f(nan, 1, 0.1)
	f(1, nan, 0.1)
	f(0.5, 1, nan)
	f(-1, 1, 0.1)
	f(-1, -1, 0.1)
	f(2, 1, 0.1)
	f(1, inf, 0.1)
	f(inf, inf, 0.1)
	f(1, 1e16, 0.1)
	f(0.5, 1, -0.1)
	f(0.5, 1, 1.1)
	f(0.5, 1, inf)
	f(1, 1, 0) // a hit that the null rules out is a fault of the counts
}

func TestEvidenceThatSaysNothing(t *testing.T) {
	test := New(0.001)
	test.Add(2, 3, 0.1)
	before := test
	for _, o := range [][3]float64{{0, 0, 0.1}, {0, 0, 0}, {0, 1e9, 0}, {3, 4, 1}} {
		if !test.Add(o[0], o[1], o[2]) {
			t.Errorf("Add%v is refused", o)
		}
	}
	if !test.AddMean(0, 0) || !test.AddMean(0.3, 1) {
		t.Error("a mean that says nothing is refused")
	}
	if test != before {
		t.Error("evidence that says nothing changed the test")
	}
}

func TestLevelsThatAreNone(t *testing.T) {
	for _, alpha := range []float64{0, -1, 1, 2, math.NaN(), math.Inf(1)} {
		test := New(alpha)
		test.Add(1e6, 1e6, 1e-6)
		if test.Rejects() {
			t.Errorf("a test at level %v rejects", alpha)
		}
	}
	var zero Test
	if zero.Add(5, 5, 0.01) || zero.AddMean(1, 0.01) || zero.Rejects() || zero.LogE() != 0 || zero.PValue() != 1 {
		t.Errorf("the zero value is a test: %+v", zero)
	}
	zero.Restart()
	if zero != (Test{}) {
		t.Error("the zero value restarts")
	}
}

func TestPValueIsOfTheHighest(t *testing.T) {
	test := New(0.001)
	if !near(test.PValue(), 1) || !near(test.LogE(), 0) {
		t.Fatalf("a new test has p %v and LogE %v", test.PValue(), test.LogE())
	}
	test.Add(10, 10, 0.1)
	p, high := test.PValue(), test.LogE()
	if !near(p, math.Exp(-high)) || !test.Rejects() {
		t.Errorf("ten hits at 0.1: p %v, LogE %v, rejects %v", p, high, test.Rejects())
	}
	test.Add(0, 1000, 0.1)
	if test.PValue() != p || !test.Rejects() {
		t.Errorf("p rose from %v to %v", p, test.PValue())
	}
	if test.LogE() > 0 {
		t.Errorf("after a thousand misses LogE is %v", test.LogE())
	}
}

func TestCopiesGoTheirOwnWay(t *testing.T) {
	settled := New(0.01)
	settled.Add(1, 4, 0.3)
	before := settled
	recent := settled
	recent.Add(30, 30, 0.3)
	recent.Restart()
	if settled != before || !recent.Rejects() {
		t.Error("a copy and its original are not apart")
	}
}

// All starts together place the whole capital and no more.
func TestStartsShareTheCapital(t *testing.T) {
	test := New(0.001)
	for range 10_000 {
		test.Restart()
	}
	if got := test.LogE(); math.Abs(got) > 1e-9 {
		t.Errorf("LogE after ten thousand starts and no evidence = %v, want 0", got)
	}
}

// A version that was good for a day is found out nearly as soon as a new one.
func TestStartsForgetTheGoodTimes(t *testing.T) {
	failuresUntil := func(starts int) (n int) {
		test := New(0.001)
		for range starts {
			test.Add(300*0.1, 300, 0.1) // a look-back of a version as good as the other
			test.Restart()
		}
		for !test.Rejects() {
			test.Add(0.5, 1, 0.1) // the odds nine times as high
			n++
		}
		return n
	}
	fresh, old := failuresUntil(0), failuresUntil(288)
	if fresh > 25 || old > 3*fresh {
		t.Errorf("%d failures until a new version is rejected, %d after a day", fresh, old)
	}
}

// The capital of each alternative is in logarithms: what a float cannot hold is no end.
func TestLargeCountsStayFinite(t *testing.T) {
	test := New(0.001)
	test.Add(0, 1e15, 0.5)
	if l := test.LogE(); math.IsNaN(l) || l > 0 || test.Rejects() {
		t.Errorf("LogE = %v after many misses", l)
	}
	test.Restart()
	test.Add(1e15, 1e15, 1e-300)
	if l := test.LogE(); math.IsNaN(l) || math.IsInf(l, 0) || test.PValue() != 0 || !test.Rejects() {
		t.Errorf("LogE = %v after many hits", l)
	}
}

// Golden values: a change of alternatives or weights changes decisions, and must say so.
func TestGoldenEvidence(t *testing.T) {
	f := func(name string, want float64, collect func(*Test)) {
		t.Helper()
		test := New(0.001)
		collect(&test)
		if got := test.LogE(); math.Abs(got-want) > 5e-5 {
			t.Errorf("%s: LogE = %.4f, want %.4f", name, got, want)
		}
	}
	golden(f)
}

// FuzzAdd: whatever is added, nothing is NaN, a rejection has reached the threshold, p
// never rises, what is refused changes nothing, and a higher q never helps.
func FuzzAdd(f *testing.F) {
	f.Add(3.0, 10.0, 0.1, 0.0, 5.0, 0.2, true)
	f.Add(1.0, 1.0, 0.0, math.Inf(1), math.NaN(), -1.0, false)
	f.Add(1e300, 1e308, 1e-300, 0.5, 1.0, 0.999999, true)
	f.Add(0.0, 1e308, 0.5, 0.0, 1e308, 0.5, true)
	f.Fuzz(func(t *testing.T, x1, n1, q1, x2, n2, q2 float64, restart bool) {
		test, higher := New(0.001), New(0.001)
		p := test.PValue()
		for _, o := range [][3]float64{{x1, n1, q1}, {x2, n2, q2}, {x1, n1, q2}} {
			before := test
			if !test.Add(o[0], o[1], o[2]) && test != before {
				t.Errorf("Add(%v) was refused and changed the test", o)
			}
			before = test
			if !test.AddMean(o[0], o[2]) && test != before {
				t.Errorf("AddMean(%v) was refused and changed the test", o)
			}
			if q := (o[2] + 1) / 2; o[2] < 1 && q < 1 && o[2] > 0 {
				higher.Add(o[0], o[1], q)
				higher.AddMean(o[0], q)
			}
			if restart {
				test.Restart()
				higher.Restart()
			}
			if l := test.LogE(); math.IsNaN(l) || math.IsInf(l, -1) {
				t.Fatalf("LogE = %v", l)
			}
			if now := test.PValue(); !(now <= p && now >= 0) {
				t.Errorf("p went from %v to %v", p, now)
			} else {
				p = now
			}
			if test.Rejects() != (test.highest >= test.Threshold()) {
				t.Error("Rejects does not follow from the threshold")
			}
			if a, b := higher.LogE(), test.LogE(); a > b+1e-6*math.Max(1, math.Abs(b)) && o[2] > 0 && o[2] < 1 {
				t.Errorf("LogE %v with a higher q, %v with this one", a, b)
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	b.ReportAllocs()
	test := New(0.001)
	for b.Loop() {
		test.Add(1, 10, 0.1)
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	test := New(0.001)
	if n := testing.AllocsPerRun(100, func() { test.Add(1, 10, 0.1); test.AddMean(0.2, 0.1); test.Restart() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Forgetting a number of starts is the same as having made and lost them, at once.
func TestForgetCountsStarts(t *testing.T) {
	const starts = 40
	one, all := New(0.001), New(0.001)
	for range starts - 1 {
		one.Restart()
	}
	one.Forget(1) // never fewer
	all.Forget(starts)
	for i := range 5 {
		if one != all {
			t.Fatalf("after %d more starts: %+v, one by one %+v", i, all, one)
		}
		one.Restart()
		all.Restart()
		one.Add(3, 4, 0.1)
		all.Add(3, 4, 0.1)
	}
	many := New(0.001)
	many.Forget(1e12) // would take hours one by one
	if many.Rejects() || many.LogE() > 0 {
		t.Errorf("LogE = %v of a test that knows nothing", many.LogE())
	}
	var zero Test
	if zero.Forget(5); zero != (Test{}) {
		t.Errorf("the zero value has become %+v", zero)
	}
}
