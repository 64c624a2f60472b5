package sequential

// golden lists what some evidence is worth, from nothing.
func golden(f func(name string, want float64, collect func(*Test))) {
	f("nothing", 0, func(*Test) {})
	f("one failure of one, at a tenth of the requests", 1.4912, func(t *Test) { t.Add(1, 1, RatioNull(0.1, 1)) })
	f("three failures of three, at a tenth of the requests", 5.4375, func(t *Test) { t.Add(3, 3, RatioNull(0.1, 1)) })
	f("31 of 312 requests against 6 of 2808", 53.476, func(t *Test) { t.Add(31, 37, RatioNull(0.1, 1)) })
	f("12 of 100 requests against 10 of 900", 11.6505, func(t *Test) { t.Add(12, 22, RatioNull(0.1, 1)) })
	f("as many as its share", -1.4957, func(t *Test) { t.Add(100, 1000, RatioNull(0.1, 1)) })
	f("412 of 5120 requests at 2 %", 267.1623, func(t *Test) { t.Add(412, 5120, 0.02) })
	f("a block that failed as a whole, at 2 %", 2.3963, func(t *Test) { t.AddMean(1, 0.02) })
	f("no answer to a tenth of a hundred requests", 4.0303, func(t *Test) { t.Add(90, 90, TrafficNull(0.1, 0.5)) })
	f("bad after ten good look-backs", 20.4311, func(t *Test) {
		for range 10 {
			t.Add(10, 100, 0.1)
			t.Restart()
		}
		t.Add(20, 30, 0.1)
	})
}
