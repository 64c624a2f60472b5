// Package api is the HTTP face of the control plane: Cloudflare's v4 API and
// Tidegate's additions to it, as schema/openapi.yaml describes them. Handlers
// decode strictly, call one method and encode; what they call is declared in
// deps.go.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"tidegate/internal/errs"
	"tidegate/internal/telemetry"
	"tidegate/schema"
)

const basePath = "/client/v4"

// Config of a server; the zero value works.
type Config struct {
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
	// GatewayURL is where clients reach the gateway: its scheme, its domain and, unless
	// it is that of the scheme, its port, such as http://localhost:8080. The addresses
	// of scripts in answers are made from it; empty leaves them out.
	GatewayURL string
	// DashboardURL is where people reach the dashboard, such as https://tidegate.example.com;
	// empty: where their requests say. The addresses of links are made from it, and a
	// browser's page may have it as its origin.
	DashboardURL string
	// TrustedProxies are believed what they say of clients: their address, and whether they
	// speak TLS.
	TrustedProxies []netip.Prefix
	// DurableObjects says that a router runs them; otherwise uploads that need them are refused.
	DurableObjects bool
	// LogpushJobsMax bounds the jobs of one dataset in every account, beside the
	// account's own setting; nil: that alone counts.
	LogpushJobsMax *int
	// RateLimit bounds the requests of each token in 5 minutes; 0: no limit.
	RateLimit int
	// CheckURL refuses, with a reason, URLs that a policy's targets may not have, because
	// of the addresses that they name; nil takes all.
	CheckURL func(*url.URL) error
	// RoutersNeedCertificate refuses what routers ask for to clients that showed no
	// certificate which the listener has verified.
	RoutersNeedCertificate bool
}

// Server answers requests. Its methods are safe for concurrent use.
type Server struct {
	deps   Deps
	now    func() time.Time
	log    *slog.Logger
	engine *gin.Engine
	// gateway is Config.GatewayURL; nil when that is empty.
	gateway        *url.URL
	durableObjects bool
	jobsMax        int
	checkURL       func(*url.URL) error // Config.CheckURL

	routersNeedCertificate bool

	dashboard   string         // Config.DashboardURL
	proxies     []netip.Prefix // Config.TrustedProxies
	crossOrigin http.CrossOriginProtection
	attempts    attempts

	rates          rates
	unknownSecrets attempts
	goodSecrets    goodSecrets
	limited        metric.Int64Counter

	requests metric.Int64Counter
	duration metric.Float64Histogram
	tracer   trace.Tracer

	turns     *turns
	questions *turns
	backtests *turns

	readiness readiness

	bodyPatience time.Duration

	viewers        viewers
	eventHeartbeat time.Duration
	tailViewers    metric.Int64UpDownCounter
	tailMessages   metric.Int64Counter
	tailDropped    metric.Int64Counter

	stopping context.Context // ends when callers should not be kept waiting any longer
	stop     context.CancelFunc
}

// New returns a server on deps.
func New(config Config, deps Deps) (*Server, error) {
	s := &Server{
		deps: deps, dashboard: config.DashboardURL, proxies: config.TrustedProxies, durableObjects: config.DurableObjects, checkURL: config.CheckURL, routersNeedCertificate: config.RoutersNeedCertificate, now: config.Now, log: config.Logger,
		tracer: telemetry.Tracer("tidegate/internal/api"), jobsMax: math.MaxInt, eventHeartbeat: eventHeartbeatDefault, bodyPatience: bodyPatienceDefault,
		turns:     newTurns(turnsMax, accountTurnsMax, turnWaitDefault, "too many uploads and downloads of modules are under way: try again"),
		questions: newTurns(questionsMax, accountQuestionsMax, questionWait, fmt.Sprintf("too many questions about metrics, events and the audit log are under way, of which an account may have %d: try again", accountQuestionsMax)),
		backtests: newTurns(backtestsMax, accountBacktestsMax, questionWait, "a backtest of this account is under way, or several of others are: try again when it is done"),
	}
	s.rates.most = config.RateLimit
	s.unknownSecrets.failedMax, s.unknownSecrets.underWayMax = unknownSecretsMax, unknownSecretsMax
	if config.LogpushJobsMax != nil {
		s.jobsMax = *config.LogpushJobsMax
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if config.GatewayURL != "" {
		var err error
		if s.gateway, err = url.Parse(config.GatewayURL); err != nil || s.gateway.Host == "" {
			return nil, fmt.Errorf("api: the gateway's URL %q is not absolute, such as http://localhost:8080", config.GatewayURL)
		}
	}
	if u, err := url.Parse(config.DashboardURL); err == nil && u.Host != "" {
		if err := s.crossOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("api: the dashboard's URL %q: %w", config.DashboardURL, err)
		}
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	meter := telemetry.Meter("tidegate/internal/api")
	var err error
	if s.requests, err = meter.Int64Counter("tidegate_api_requests_total",
		metric.WithDescription("Requests answered, by method, route and status.")); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if s.duration, err = meter.Float64Histogram("tidegate_api_request_duration_seconds",
		metric.WithUnit("s"), metric.WithDescription("Time to answer a request; long polls included.")); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if err := s.declareTailMetrics(meter); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if err := s.declareLimitMetrics(meter); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.engine = s.newEngine()
	return s, nil
}

// Handler serves the API, and beside it /healthz, /readyz, /openapi.yaml, the dashboard and
// its sessions, and /metrics where Deps has it.
func (s *Server) Handler() http.Handler { return s.engine }

// StopWaiting ends the requests that wait for something to happen, now and from
// now on. Call it when the HTTP server begins to shut down, or it would wait for
// them; they are answered 503 and their callers ask again elsewhere. Those who
// watch a script are sent away: WaitForViewers.
func (s *Server) StopWaiting() {
	s.viewers.stop()
	s.stop()
}

func (s *Server) newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.RedirectTrailingSlash = false // an endpoint has one path
	// An encoded slash is part of a name. Parameters are unescaped in admit, because
	// gin would read a plus as a space.
	engine.UseEscapedPath, engine.UnescapePathValues = true, false
	engine.Use(s.observe, s.recover, s.limitBody)
	for _, e := range s.endpoints() {
		engine.Handle(e.method, basePath+e.path, s.serve(e))
		if e.path == graphPath { // published clients of it end the path with a slash
			engine.Handle(e.method, basePath+e.path+"/", s.serve(e))
		}
	}
	engine.GET(tailPath, s.watchTail)
	engine.GET(instantPath, s.listenToInstantLogs)
	s.routeSessions(engine)
	engine.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	engine.GET("/readyz", s.ready)
	engine.GET("/openapi.yaml", func(c *gin.Context) { c.Data(http.StatusOK, "application/yaml", schema.OpenAPI) })
	engine.GET("/metrics", func(c *gin.Context) {
		if s.deps.Prometheus == nil { // and not a page of the dashboard, which would look like an answer
			c.String(http.StatusNotFound, "metrics are not served here, but at --ops-addr\n")
			return
		}
		s.deps.Prometheus.ServeHTTP(c.Writer, c.Request)
	})
	engine.NoRoute(s.noRoute)
	return engine
}

// readiness is what was found out last. Everybody may ask, so that not each question is one
// to the database and the brokers.
type readiness struct {
	mu      sync.Mutex
	at      time.Time // monotonic; zero: never
	missing string
}

const (
	readyKept    = time.Second     // how long an answer holds
	readyTimeout = 5 * time.Second // of finding out: who asked may have left, and others wait
)

func (s *Server) ready(c *gin.Context) {
	missing := s.missing(context.WithoutCancel(c.Request.Context()))
	if missing != "" {
		c.String(http.StatusServiceUnavailable, "not ready: %s\n", missing)
		return
	}
	c.String(http.StatusOK, "ready\n")
}

// missing names what the server needs and has not; empty for nothing.
func (s *Server) missing(ctx context.Context) string {
	r := &s.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.deps.Ready == nil || !r.at.IsZero() && time.Since(r.at) < readyKept {
		return r.missing
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	missing, err := s.deps.Ready(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "not ready", "missing", missing, "error", err)
	} else {
		missing = ""
	}
	r.missing, r.at = missing, time.Now()
	return missing
}

// noRoute answers what no endpoint has: an error below the API, else the dashboard.
func (s *Server) noRoute(c *gin.Context) {
	path := c.Request.URL.Path
	isRead := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if s.deps.Dashboard != nil && isRead && path != basePath && !strings.HasPrefix(path, "/client/") {
		c.Status(http.StatusOK) // gin begins with 404 here
		s.deps.Dashboard.ServeHTTP(c.Writer, c.Request)
		return
	}
	if c.Request.Method == http.MethodDelete && accountItself.MatchString(path) {
		s.fail(c, errs.New(errs.NotFound, codeNoRoute, accountStays, path))
		return
	}
	if product := absentProduct(path); product != "" {
		s.fail(c, errs.New(errs.NotFound, codeNoRoute, "Tidegate does not support %s yet, and has no endpoint %s %s", product, c.Request.Method, path))
		return
	}
	s.fail(c, errs.New(errs.NotFound, codeNoRoute, "there is no endpoint %s %s: the API is described at /openapi.yaml", c.Request.Method, path))
}

// observe gives the request an id and a span, and counts it.
func (s *Server) observe(c *gin.Context) {
	start := time.Now()
	// What no endpoint has is one series: its path and method are the caller's invention.
	method, route := c.Request.Method, c.FullPath()
	if route == "" {
		method, route = "any", "none"
	}
	ctx := otel.GetTextMapPropagator().Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
	ctx, span := s.tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	c.Request = c.Request.WithContext(ctx)
	c.Header("X-Request-Id", uuid.NewString())
	s.protect(c)

	c.Next()

	status := c.Writer.Status()
	attributes := []attribute.KeyValue{
		attribute.String("method", method), attribute.String("route", route), attribute.Int("status", status),
	}
	span.SetAttributes(attribute.String("http.request.method", c.Request.Method),
		attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	s.requests.Add(ctx, 1, metric.WithAttributes(attributes...))
	s.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attributes[:2]...))
	s.log.DebugContext(ctx, "request answered", "request_id", requestID(c),
		"method", c.Request.Method, "path", loggedPath(c), "status", status, "duration", time.Since(start))
}

// loggedPath is the path without the secret that the one of a WebSocket has.
func loggedPath(c *gin.Context) string {
	if pattern := c.FullPath(); strings.HasSuffix(pattern, ":secret") {
		return pattern
	}
	return c.Request.URL.Path
}

func requestID(c *gin.Context) string { return c.Writer.Header().Get("X-Request-Id") }

// recover turns a panic into an answer, so that one bad request costs one
// connection nothing.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // the panic's own value, as net/http compares it
			panic(p)
		}
		s.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}()
	c.Next()
}
