package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

const (
	// instantPath is where listeners connect, as at Cloudflare outside the base path. The secret is
	// all that they send.
	instantPath = "/instant-logs/ws/sessions/:secret"
	// instantKeepInterval is how often a session with listeners is kept from ending: a
	// database may be away for a few of them.
	instantKeepInterval = time.Minute
)

// mayReadLogs is who may listen to instant logs, among others.
var mayReadLogs = access{scopes: []control.Scope{control.LogsRead}}

type instantView struct {
	DestinationConf string `json:"destination_conf"`
	SessionID       string `json:"session_id"`
	logjob.InstantSettings
}

func (r *request) viewInstantLogs(l logjob.InstantLogs) instantView {
	return instantView{socketURL(r.gin.Request, instantPath, l.ID), l.ID, l.InstantSettings}
}

func (s *Server) listInstantLogs(r *request) (any, error) {
	accountID, zone, err := s.instantScope(r)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.InstantLogs.InstantLogs(r.ctx, accountID, zone)
	return views(list, r.viewInstantLogs), err
}

func (s *Server) createInstantLogs(r *request) (any, error) {
	if s.deps.InstantEvents == nil {
		return nil, errs.New(errs.Unavailable, 0, "there are no instant logs: this server was started without Kafka")
	}
	var body logjob.InstantRequest
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	settings, err := body.Settings()
	if err != nil {
		return nil, err
	}
	accountID, zone, err := s.instantScope(r)
	if err != nil {
		return nil, err
	}
	l, err := s.deps.InstantLogs.CreateInstantLogs(r.ctx, logjob.InstantLogs{AccountID: accountID, Zone: zone, InstantSettings: settings})
	if err != nil {
		return nil, err
	}
	return r.viewInstantLogs(l), nil
}

// instantScope returns the account whose events are shown, and the domain name of
// the zone where the path names one.
func (s *Server) instantScope(r *request) (accountID, zone string, err error) {
	if r.account != "" {
		return r.account, "", nil
	}
	accounts, err := s.visibleAccounts(r)
	if err != nil {
		return "", "", err
	}
	for _, a := range accounts {
		names, err := s.zonesInUse(r, a.ID)
		if err != nil {
			return "", "", err
		}
		for _, name := range names {
			if zoneID(a.ID, name) == r.param("zone") {
				return a.ID, name, nil
			}
		}
	}
	return "", "", errs.New(errs.NotFound, 0, "zone %q does not exist, or not for this API token, or no route and no custom domain leads into it", shown(r.param("zone")))
}

// listenToInstantLogs serves a session's WebSocket. The session goes on without listeners for a while.
func (s *Server) listenToInstantLogs(c *gin.Context) {
	show, err := s.openInstantLogs(c)
	if err == nil {
		err = s.view(c, show, func(ctx context.Context, _ closing, _ bool) {
			if err := s.deps.InstantLogs.KeepInstantLogs(ctx, show.id); err != nil && errs.KindOf(err) != errs.NotFound {
				s.log.WarnContext(ctx, "a session of instant logs may end before its time without listeners", append(show.log, "error", err)...)
			}
		})
	}
	if err != nil {
		s.fail(c, err)
	}
}

func (s *Server) openInstantLogs(c *gin.Context) (viewing, error) {
	if s.deps.InstantEvents == nil {
		return viewing{}, errs.New(errs.Unavailable, 0, "there are no instant logs: this server was started without Kafka")
	}
	if !wantsWebSocket(c) {
		return viewing{}, errs.New(errs.Invalid, codeLogpush, "connect here with a WebSocket")
	}
	l, err := lookUp(c.Request.Context(), s, c.Request, c.Param("secret"), s.deps.InstantLogs.OpenInstantLogs)
	if err != nil {
		return viewing{}, err
	}
	may := func(ctx context.Context) error { return s.mayHold(ctx, l.Holder, l.AccountID, mayReadLogs) }
	if err := may(c.Request.Context()); err != nil {
		return viewing{}, err
	}
	lines, err := l.View()
	if err != nil {
		return viewing{}, fmt.Errorf("instant logs: %w", err)
	}
	return viewing{
		id: l.ID, log: []any{"account", l.AccountID, "zone", l.Zone},
		follow: func(ctx context.Context, deliver func(deploy.TailMessage)) error {
			return s.deps.InstantEvents.Follow(ctx, l.AccountID, deliver)
		},
		awaitEnd: func(ctx context.Context) (closing, error) { return s.keepInstantLogs(ctx, l) },
		may:      may,
		choose: func(m deploy.TailMessage) ([]byte, error) {
			return lines.Line(m.Value, rand.Float64) // #nosec G404 -- a sample, not a secret
		},
		notice: instantNotice,
	}, nil
}

// keepInstantLogs tells the database that somebody listens, until the session's time is up or
// it was ended.
func (s *Server) keepInstantLogs(ctx context.Context, l logjob.InstantLogs) (closing, error) {
	left := l.ExpiresOn.Sub(s.now())
	lived, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	for {
		err := s.keepOnce(lived, l)
		switch {
		case ctx.Err() != nil:
			return closing{}, ctx.Err()
		case lived.Err() != nil || err == nil && !s.now().Before(l.ExpiresOn):
			return closing{code: codeExpired, reason: fmt.Sprintf("the session has ended after %d minutes: make another one", int(l.ExpiresOn.Sub(l.CreatedOn).Minutes()))}, nil
		case err == nil:
			return closing{code: ws.StatusNormalClosure, reason: "the session was ended"}, nil
		}
	}
}

// keepOnce returns nil when the session has ended, and an error when it is to be kept again.
func (s *Server) keepOnce(ctx context.Context, l logjob.InstantLogs) error {
	ctx, cancel := context.WithTimeout(ctx, instantKeepInterval)
	defer cancel()
	err := s.deps.InstantLogs.KeepInstantLogs(ctx, l.ID)
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err == nil {
		err = s.deps.InstantLogs.AwaitInstantLogsEnd(ctx, l.ID)
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a session of instant logs could not be kept, trying again", "account", l.AccountID, "zone", l.Zone, "error", err)
		<-ctx.Done()
	}
	return err
}

// instantNotice is a line without an event.
func instantNotice(sentence string) []byte {
	var text bytes.Buffer
	err := json.NewEncoder(&text).Encode(struct {
		Notice string `json:"notice"`
	}{sentence})
	if err != nil {
		panic(fmt.Sprintf("api: encode a notice: %v", err)) // plain text
	}
	return text.Bytes()
}
