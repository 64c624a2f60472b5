package api

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// tailPath is where viewers connect; the secret is all that they send.
const tailPath = basePath + "/tails/:secret"

type tailView struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	ExpiresAt timestamp `json:"expires_at"`
}

func (r *request) viewTail(t deploy.Tail) tailView {
	return tailView{t.ID, socketURL(r.gin.Request, tailPath, t.Secret), timestamp(t.ExpiresOn)}
}

// socketURL leads back to where the caller found this server.
func socketURL(r *http.Request, pattern, secret string) string {
	host, byTLS := reachedAt(r)
	u := url.URL{Scheme: "ws", Host: host, Path: strings.Replace(pattern, ":secret", secret, 1)}
	if byTLS {
		u.Scheme = "wss"
	}
	return u.String()
}

// callerAddress is empty when it is not known. For the reason that reachedAt has, a
// proxy is believed.
func callerAddress(r *http.Request) string {
	if address, err := netip.ParseAddr(firstOf(r.Header.Get("X-Forwarded-For"))); err == nil {
		return address.Unmap().String()
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return from.Addr().Unmap().String()
	}
	return ""
}

func (s *Server) createTail(r *request) (any, error) {
	if s.deps.TailEvents == nil {
		return nil, errs.New(errs.Unavailable, 0, "scripts cannot be watched: this server was started without Kafka")
	}
	// wrangler sends JSON as text/plain, so the type is not looked at. No body is no filter.
	text, err := r.body()
	if err != nil {
		return nil, err
	}
	var body struct {
		Filters []deploy.TailFilter `json:"filters"`
		Debug   bool                `json:"debug"` // asks for what only Cloudflare's own people get
	}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := decodeStrict(text, &body); err != nil {
			return nil, err
		}
	}
	if err := deploy.CheckTailFilters(body.Filters, callerAddress(r.gin.Request)); err != nil {
		return nil, err
	}
	tail, err := s.deps.Tails.CreateTail(r.ctx, r.account, r.script(), body.Filters)
	return r.viewTail(tail), err
}

func (s *Server) listTails(r *request) (any, error) {
	list, err := s.deps.Tails.Tails(r.ctx, r.account, r.script())
	return views(list, r.viewTail), err
}

func (s *Server) deleteTail(r *request) (any, error) {
	return nil, s.deps.Tails.DeleteTail(r.ctx, r.account, r.script(), r.param("id"))
}
