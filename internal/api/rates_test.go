package api

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

func TestCountsOfTokensAreBounded(t *testing.T) {
	r := rates{most: 2}
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	fill := func(name string) {
		for i := range rememberedMax {
			r.take(fmt.Sprint(name, i), now)
		}
	}
	fill("a")
	if r.take("a0", now); r.take("a0", now).wait == 0 {
		t.Error("a token has more than its limit")
	}
	now = now.Add(rateWindow)
	r.take("one", now) // all others are whole again
	if len(r.of) != 1 {
		t.Errorf("%d are held", len(r.of))
	}
	fill("b")
	fill("c")
	if len(r.of) != rememberedMax {
		t.Errorf("%d are held", len(r.of))
	}
}

func TestGoodTokensAreBounded(t *testing.T) {
	var g goodSecrets
	last := func(i int) [sha256.Size]byte { return sha256.Sum256([]byte(fmt.Sprint(i))) }
	for i := range rememberedMax + 10 {
		g.add(last(i))
	}
	if len(g.of) != rememberedMax || !g.has(last(rememberedMax+9)) || g.has(last(-1)) {
		t.Errorf("%d are held", len(g.of))
	}
}
