package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// tailProtocol is the one version of the protocol that there is.
const tailProtocol = "trace-v1"

// watchTail serves a tail's WebSocket.
func (s *Server) watchTail(c *gin.Context) {
	tail, err := s.openTail(c)
	if err == nil {
		err = s.view(c, s.viewTailEvents(tail), func(ctx context.Context, how closing, last bool) {
			if last && how.left {
				s.endTail(ctx, tail)
			}
		})
	}
	if err != nil {
		s.fail(c, err)
	}
}

// endTail deletes a tail that its viewer left: wrangler makes a new one each time
// and, when it is interrupted, does not get to delete the old one. Left alone, ten
// of them would lock people out for hours.
func (s *Server) endTail(ctx context.Context, tail deploy.Tail) {
	err := s.deps.Tails.DeleteTail(ctx, tail.AccountID, tail.Script, tail.ID)
	if err != nil && errs.KindOf(err) != errs.NotFound { // it may have been quicker
		s.log.WarnContext(ctx, "a tail that nobody watches stays until it expires", "account", tail.AccountID, "script", tail.Script, "tail", tail.ID, "error", err)
	}
}

func (s *Server) openTail(c *gin.Context) (deploy.Tail, error) {
	if s.deps.TailEvents == nil {
		return deploy.Tail{}, errs.New(errs.Unavailable, 0, "scripts cannot be watched: this server was started without Kafka")
	}
	if !wantsWebSocket(c) || !offersTail(c.Request.Header.Values("Sec-WebSocket-Protocol")) {
		return deploy.Tail{}, errs.New(errs.Invalid, 0, "connect here with a WebSocket that offers the subprotocol %s", tailProtocol)
	}
	tail, err := lookUp(c.Request.Context(), s, c.Request, c.Param("secret"), s.deps.Tails.OpenTail)
	if err == nil {
		err = s.mayHold(c.Request.Context(), tail.Holder, tail.AccountID, mayTail)
	}
	return tail, err
}

// mayTail is who may watch a script: who may change it may see what it logs, and so may who
// reads logs.
var mayTail = access{scopes: []control.Scope{control.ScriptsEdit, control.LogsRead}}

// mayHold refuses who must not watch, or no longer, by the address that they were given: their
// session or token has ended, or opens the account's events no longer.
func (s *Server) mayHold(ctx context.Context, holder control.Holder, account string, a access) error {
	if holder == (control.Holder{}) {
		return nil
	}
	session, err := s.deps.Sessions.Holding(ctx, holder)
	if err != nil {
		return err
	}
	who, err := s.callerOf(session)
	if err != nil {
		return err
	}
	if err := s.bind(ctx, who, account); err != nil {
		return err
	}
	return a.check(who.rights, account)
}

func wantsWebSocket(c *gin.Context) bool {
	return strings.EqualFold(c.GetHeader("Upgrade"), "websocket")
}

func offersTail(lists []string) bool {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(name) == tailProtocol {
				return true
			}
		}
	}
	return false
}

// viewTailEvents is what the viewers of a tail see.
func (s *Server) viewTailEvents(tail deploy.Tail) viewing {
	return viewing{
		id: tail.ID, protocol: tailProtocol,
		log: []any{"account", tail.AccountID, "script", tail.Script, "tail", tail.ID},
		follow: func(ctx context.Context, deliver func(deploy.TailMessage)) error {
			return s.deps.TailEvents.Tail(ctx, tail.AccountID, tail.Script, deliver)
		},
		awaitEnd: func(ctx context.Context) (closing, error) { return s.awaitTailEnd(ctx, tail) },
		may:      func(ctx context.Context) error { return s.mayHold(ctx, tail.Holder, tail.AccountID, mayTail) },
		choose:   func(m deploy.TailMessage) ([]byte, error) { return chooseTail(tail.Filters, m) },
		notice:   func(sentence string) []byte { return s.tailNotice(tail.Script, sentence) },
	}
}

func (s *Server) awaitTailEnd(ctx context.Context, tail deploy.Tail) (closing, error) {
	if err := s.deps.Tails.AwaitTailEnd(ctx, tail); err != nil {
		return closing{}, err
	}
	if !s.now().Before(tail.ExpiresOn) {
		return closing{code: codeExpired, reason: "the tail has expired: make another one"}, nil
	}
	return closing{code: ws.StatusNormalClosure, reason: "the tail was deleted"}, nil
}

// chooseTail lets an event through, or not.
func chooseTail(filters []deploy.TailFilter, m deploy.TailMessage) ([]byte, error) {
	if len(filters) == 0 {
		if !json.Valid(m.Value) {
			return nil, errors.New("the event is not valid JSON")
		}
		return m.Value, nil
	}
	e, err := m.TailEvent()
	if err != nil {
		return nil, err
	}
	if !e.Matches(filters, m.ClientIP, rand.Float64) { // #nosec G404 -- a sample, not a secret
		return nil, nil
	}
	return m.Value, nil
}

// tailNotice is a message without an event. It has the members that viewers read
// without looking whether they are there.
func (s *Server) tailNotice(script, sentence string) []byte {
	type info struct {
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	text, err := json.Marshal(struct {
		Outcome        string     `json:"outcome"`
		ScriptName     string     `json:"scriptName"`
		Exceptions     []struct{} `json:"exceptions"`
		Logs           []struct{} `json:"logs"`
		EventTimestamp int64      `json:"eventTimestamp"`
		Event          info       `json:"event"`
	}{"ok", script, []struct{}{}, []struct{}{}, s.now().UnixMilli(), info{sentence, "overload"}})
	if err != nil {
		panic(fmt.Sprintf("api: encode a notice: %v", err)) // plain text and numbers
	}
	return text
}
