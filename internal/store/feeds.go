package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// An address of a feed has the feed's secret, for who made the feed. Who finds the feed in a list
// gets an address of their own: the secret's hash, who they are, and by the secret a proof that
// they were given it. So everybody watches for as long as they themselves may.

// addressFor is what opens a feed of a secret for whoever asks.
func addressFor(ctx context.Context, secret string, maker control.Holder) string {
	who := control.ActorFrom(ctx)
	asks := control.Holder{TokenID: who.TokenID, Session: who.Session}
	if asks == maker {
		return secret
	}
	given := strings.Join([]string{hashOf(secret), asks.TokenID, asks.Session}, ".")
	return given + "." + proofOf(secret, given)
}

func proofOf(secret, given string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(given))
	return hex.EncodeToString(mac.Sum(nil))
}

// feedAddress is an address as it comes.
type feedAddress struct {
	hash         string // of the feed's secret
	given, proof string // empty: it is the secret
	holder       control.Holder
}

func parseAddress(text string) feedAddress {
	parts := strings.Split(text, ".") // which no secret has
	if len(parts) != 4 {
		return feedAddress{hash: hashOf(text)}
	}
	given, proof := text[:strings.LastIndexByte(text, '.')], parts[3]
	return feedAddress{parts[0], given, proof, control.Holder{TokenID: parts[1], Session: parts[2]}}
}

// opens reports whether it leads to the feed that was found by its hash, and for whom.
func (a feedAddress) opens(secret string, maker control.Holder) (holder control.Holder, ok bool) {
	if a.given == "" {
		return maker, true
	}
	return a.holder, hmac.Equal([]byte(a.proof), []byte(proofOf(secret, a.given)))
}

// Holding is the live session, or token, of whoever an address was given to; it is not used by
// that. The error is unauthorized when it has ended.
func (s *Store) Holding(ctx context.Context, holder control.Holder) (control.Session, error) {
	now := s.now().UTC()
	if holder.Session != "" {
		session, used, err := s.findSession(ctx, holder.Session)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && (!now.Before(session.ExpiresOn) || now.Sub(used) >= control.SessionIdle):
			return control.Session{}, sessionEnded()
		case err != nil:
			return control.Session{}, fmt.Errorf("look up session: %w", err)
		}
		return session, nil
	}
	token, err := scanToken(s.reader.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE id = $1 AND (expires_on IS NULL OR expires_on > $2)`,
		holder.TokenID, now.UnixMicro()))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return control.Session{}, errs.New(errs.Unauthorized, 0, "the API token for which this address was made was deleted, or has expired")
	case err != nil:
		return control.Session{}, fmt.Errorf("look up token: %w", err)
	}
	return control.Session{Token: token}, nil
}
