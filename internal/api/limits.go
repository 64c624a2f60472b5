package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const (
	// rateWindow is that of Cloudflare's global limit, 1,200 requests of a user
	// (https://developers.cloudflare.com/fundamentals/api/reference/limits/).
	rateWindow = 5 * time.Minute
	// RateLimitDefault is ten times as much. A page of the dashboard asks a few things every
	// few seconds, some hundred times in 5 minutes.
	RateLimitDefault = 12_000
	// unknownSecretsMax requests with unknown tokens, sessions and feeds of one address in
	// attemptsWindow: more than clients send that go on with a token which has ended.
	unknownSecretsMax = 1000
	// rememberedMax bounds memory: callers with a count of their requests, and secrets that are
	// known to be good.
	rememberedMax = 10_000
)

// rates count the requests of each caller, in this process. One that was silent may send
// the whole limit at once; after that it gets room at the rate of the limit. The zero value
// has no limit. The methods are safe for concurrent use.
type rates struct {
	most int // in rateWindow; 0: no limit

	mu    sync.Mutex
	of    map[string]*rate.Limiter // by the id of the token, or of the person
	swept time.Time
}

// allowance is what a caller has left.
type allowance struct {
	most, left int
	full       time.Duration // until it is whole again, if nothing is sent
	wait       time.Duration // until there is room for a request; 0: this one is allowed
}

// take counts a request of a caller, if there is room for it.
func (r *rates) take(id string, now time.Time) allowance {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.of[id]
	if limiter == nil {
		r.makeRoomLocked(now)
		limiter = rate.NewLimiter(rate.Limit(float64(r.most)/rateWindow.Seconds()), r.most)
		r.of[id] = limiter
	}
	a := allowance{most: r.most}
	if !limiter.AllowN(now, 1) {
		a.wait = r.until(1 - limiter.TokensAt(now))
	}
	left := limiter.TokensAt(now)
	a.left, a.full = max(0, int(left)), r.until(float64(r.most)-left)
	return a
}

// until is how long it takes to get room for so many requests.
func (r *rates) until(requests float64) time.Duration {
	return time.Duration(requests / float64(r.most) * float64(rateWindow))
}

// makeRoomLocked forgets callers that have their whole limit, and one of the others if there are none:
// it begins anew.
func (r *rates) makeRoomLocked(now time.Time) {
	if r.of == nil {
		r.of = make(map[string]*rate.Limiter)
	}
	if len(r.of) < rememberedMax {
		return
	}
	if now.Sub(r.swept) >= attemptsSweepEvery {
		r.swept = now
		for id, limiter := range r.of {
			if limiter.TokensAt(now) >= float64(r.most) {
				delete(r.of, id)
			}
		}
	}
	for id := range r.of {
		if len(r.of) < rememberedMax {
			return
		}
		delete(r.of, id)
	}
}

// limitRate counts a request of a token or a person and tells the client, in Cloudflare's
// headers, what is left.
func (s *Server) limitRate(c *gin.Context, who caller) error {
	if s.rates.most == 0 {
		return nil
	}
	a := s.rates.take(who.actor().TokenID, s.now())
	c.Header("Ratelimit-Policy", fmt.Sprintf(`"default";q=%d;w=%d`, a.most, int(rateWindow.Seconds())))
	c.Header("Ratelimit", fmt.Sprintf(`"default";r=%d;t=%d`, a.left, wholeSeconds(a.full)))
	if a.wait == 0 {
		return nil
	}
	s.countLimited(c.Request.Context(), "token")
	return tooMany(a.wait, "more than %d requests in %d minutes by %s, which is the limit (--api-rate-limit): try again in %d s",
		a.most, int(rateWindow.Minutes()), who.one(), wholeSeconds(a.wait))
}

// checkToken finds a token.
func (s *Server) checkToken(ctx context.Context, r *http.Request, secret string) (control.Token, error) {
	return lookUp(ctx, s, r, secret, s.deps.Tokens.Authenticate)
}

// lookUp finds what a secret opens. Of an address that has sent too many that open nothing,
// only those are looked at that were good before: whoever guesses keeps nobody else out, also
// where all clients have the address of a balancer. One that is good no longer is like any other.
func lookUp[T any](ctx context.Context, s *Server, r *http.Request, secret string, find func(context.Context, string) (T, error)) (T, error) {
	hash, address := sha256.Sum256([]byte(secret)), s.clientAddress(r)
	known := s.goodSecrets.has(hash)
	ended := func(bool) {}
	if !known {
		var wait time.Duration
		if ended, wait = s.unknownSecrets.begin(address, s.now()); wait > 0 {
			s.countLimited(ctx, "unknown_token")
			var none T
			return none, tooMany(wait, "too many requests from %s with tokens, sessions or addresses of feeds that are unknown or have ended: try again in %d s", address, wholeSeconds(wait))
		}
	}
	found, err := find(ctx, secret)
	unknown := errs.KindOf(err) == errs.Unauthorized || errs.KindOf(err) == errs.NotFound // which feeds are
	ended(unknown)
	switch {
	case err == nil:
		s.goodSecrets.add(hash)
	case unknown && known:
		s.goodSecrets.remove(hash)
		if ended, wait := s.unknownSecrets.begin(address, s.now()); wait == 0 {
			ended(true)
		}
	}
	return found, err
}

// goodSecrets are hashes of some, of tokens and of sessions, that were good when they were used
// last. They open nothing: each request has its secret looked up. The methods are safe for concurrent use.
type goodSecrets struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]struct{}
}

func (g *goodSecrets) has(hash [sha256.Size]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, found := g.of[hash]
	return found
}

func (g *goodSecrets) remove(hash [sha256.Size]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, hash)
}

// add forgets one of the others, any, if there are too many.
func (g *goodSecrets) add(hash [sha256.Size]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, found := g.of[hash]; found {
		return
	}
	if g.of == nil {
		g.of = make(map[[sha256.Size]byte]struct{})
	}
	for other := range g.of {
		if len(g.of) < rememberedMax {
			break
		}
		delete(g.of, other)
	}
	g.of[hash] = struct{}{}
}

// retryLater is an error that tells when to try again.
type retryLater struct {
	error
	wait time.Duration
}

func (e retryLater) Unwrap() error { return e.error }

func tooMany(wait time.Duration, format string, args ...any) error {
	return retryLater{errs.New(errs.Limited, 0, format, args...), wait}
}

// wholeSeconds is rounded up, as Retry-After wants it.
func wholeSeconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

func (s *Server) declareLimitMetrics(meter metric.Meter) (err error) {
	s.limited, err = meter.Int64Counter("tidegate_api_limited_total",
		metric.WithDescription("Requests refused with 429 because of a limit of rates, by reason: token (--api-rate-limit, of a token or a person), unknown_token (a session, too)."))
	return err
}

func (s *Server) countLimited(ctx context.Context, reason string) {
	s.limited.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}
