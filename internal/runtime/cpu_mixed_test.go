package runtime

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whatever comes together, nobody gets another's CPU time: empty requests that get
// one have little, and those that compute, also after their response, have all of theirs.
func TestCPUTimesAreNotMixedUp(t *testing.T) {
	r, w := newBurner(t, nil)
	const empty, burn, late = "/", "/?burn=10000000", "/?late&burn=10000000"
	cpuTime(t, r, w, func() { mustGet(t, w, burn) }) // until it is compiled
	alone := cpuTime(t, r, w, func() { mustGet(t, w, burn) })
	const clients, each = 3, 40
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(1, uint64(c)))
			pause := time.NewTimer(0)
			for i := range each {
				<-pause.C
				path := []string{empty, burn, empty, late}[dice.IntN(4)]
				req := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
				req.Host = "shop.dev.localhost"
				req.Header.Set("Cf-Ray", fmt.Sprintf("%s#%d#%d", path, c, i))
				resp, err := w.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				pause.Reset(time.Duration(dice.IntN(150)) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	attributed := 0
	for range clients * each {
		inv := r.nextInvocation()
		if inv.CPUTimeMs == nil {
			continue
		}
		attributed++
		path, _, _ := strings.Cut(inv.RayID, "#")
		if got := *inv.CPUTimeMs; path == empty && got > alone/2 || path != empty && (got < alone/4 || got > 4*alone) {
			t.Errorf("%s has %d ms; computing alone took %d ms", path, got, alone)
		}
	}
	t.Logf("%d of %d invocations have a CPU time", attributed, clients*each)
}
