package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"tidegate/internal/deploy"
)

// rooms is a script whose rooms are objects of origins, with the share for v2, and a room
// that moves to v2 when it has half of them.
func rooms(t *testing.T, one, two http.HandlerFunc) (at func(share deploy.Percentage) deploy.SnapshotScript, mover string) {
	t.Helper()
	origins := []string{origin(t, one), origin(t, two)}
	at = func(share deploy.Percentage) deploy.SnapshotScript {
		sc := script(origins, deploy.Full-share, share)
		sc.Affinity = []deploy.AffinityRule{{Source: deploy.AffinityPath, Prefix: "/rooms/"}}
		return sc
	}
	few, half := at(10_000), at(50_000)
	for i := range 1000 {
		mover = fmt.Sprint(i)
		before, after := deploy.Pick(&few, deploy.Facts{Key: mover}, 0), deploy.Pick(&half, deploy.Facts{Key: mover}, 0)
		if before.Index == 0 && after.Index == 1 {
			return at, mover
		}
	}
	t.Fatal("no room moves")
	return nil, ""
}

// Over one gateway an object is on one version at a time as far as anybody can tell who
// waits for answers: a request that is sent when the new version has answered one does
// not reach the old version, whoever sends it. So it is over several gateways that
// have the deployment.
func TestObjectsChangeVersionOnceUnderLoad(t *testing.T) {
	const clients = 8
	at, room := rooms(t, says("one"), says("two"))
	for _, gateways := range []int{1, 2} {
		all := make([]*env, gateways)
		for i := range all {
			all[i] = start(t, snapshot(1, at(10_000)))
		}
		var arrived atomic.Bool // the new version has answered
		var before, after atomic.Int64
		stop := make(chan struct{})
		var running sync.WaitGroup
		for i := range clients {
			running.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					had := arrived.Load()
					a, err := all[(i+n)%gateways].try(t.Context(), http.MethodGet, shop+"/rooms/"+room, nil)
					switch {
					case err != nil:
						t.Error(err)
						return
					case a.body == "two" && gateways == 1:
						arrived.Store(true)
						after.Add(1)
					case a.body == "two":
						after.Add(1)
					case had:
						t.Errorf("over %d gateways the room was on %q after it had moved", gateways, a.body)
						return
					default:
						before.Add(1)
					}
				}
			})
		}
		waitFor(t, "requests on the old version", func() bool { return before.Load() > 100 })
		for _, e := range all {
			e.control.set(snapshot(2, at(50_000)), nil)
		}
		for _, e := range all {
			waitFor(t, "the deployment", func() bool { return e.Revision() == 2 })
		}
		waitFor(t, "a request on the new version", func() bool { return after.Load() > 0 })
		// A request that is under way may have been decided before. One that is sent from now
		// on may not.
		arrived.Store(true)
		had := after.Load()
		waitFor(t, "requests on the new version", func() bool { return after.Load() > had+100 })
		close(stop)
		running.Wait()
	}
}

// What does not hold: a request that is under way stays where it is, and does not keep
// the next one from the new version; and a gateway that has not heard of a deployment
// sends an object where it was.
func TestObjectsMayOverlapAtADeployment(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	at, room := rooms(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("slow") {
			close(inside)
			<-leave
		}
		says("one")(w, r)
	}, says("two"))
	first, second := start(t, snapshot(1, at(10_000))), start(t, snapshot(1, at(10_000)))
	url := shop + "/rooms/" + room
	slow := make(chan answer, 1)
	go func() {
		a, err := first.try(t.Context(), http.MethodGet, url+"?slow", nil)
		if err != nil {
			t.Error(err)
		}
		slow <- a
	}()
	<-inside
	first.control.set(snapshot(2, at(50_000)), nil)
	waitFor(t, "the deployment", func() bool { return first.Revision() == 2 })
	first.wantBody(t, url, "two")
	second.wantBody(t, url, "one")
	close(leave)
	if a := <-slow; a.body != "one" || a.StatusCode != http.StatusOK {
		t.Errorf("the request that was under way ended with %d %q", a.StatusCode, a.body)
	}
	second.control.set(snapshot(2, at(50_000)), nil)
	waitFor(t, "the deployment", func() bool { return second.Revision() == 2 })
	second.wantBody(t, url, "two")
}
