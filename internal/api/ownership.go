package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidegate/internal/errs"
)

// Some destinations are written to with the operator's own credentials. Whoever
// names such a one proves first that they can read it: they get a file written into
// it, and send back what the file holds. The operator has the credentials, and so
// nothing to prove; their token also gets to see the challenge in the answer, to
// hand it on to whoever sets up jobs for an account.

const (
	// ownershipLifetime is that of Cloudflare's challenges (reference/logpush.md, 6.7).
	ownershipLifetime = 7 * 24 * time.Hour
	ownershipKey      = "ownership"
	ownershipPath     = "/logpush/ownership"
)

// ownershipClaims is what a challenge says. It ends up in the bucket, so that it
// has no destination_conf, which could hold credentials, but its hash.
type ownershipClaims struct {
	ObjectType  string `json:"object_type"` // "account"
	ObjectID    string `json:"object_id"`
	Destination string `json:"destination"` // SHA-256 of the whole destination_conf, hex
	ExpiresOn   int64  `json:"exp"`         // Unix seconds
}

func claimOwnership(accountID, conf string, expires time.Time) ownershipClaims {
	sum := sha256.Sum256([]byte(conf))
	return ownershipClaims{"account", accountID, hex.EncodeToString(sum[:]), expires.Unix()}
}

// ownershipHeader is the one that every challenge has: a JSON Web Token, signed by
// HMAC with SHA-256. No other is accepted, so that nobody can choose an algorithm.
var ownershipHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

func signOwnership(key []byte, claims ownershipClaims) (string, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := ownershipHeader + "." + base64.RawURLEncoding.EncodeToString(text)
	return signed + "." + signatureOf(key, signed), nil
}

func signatureOf(key []byte, signed string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed)) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// readOwnership returns the claims of a challenge that key has signed.
func readOwnership(key []byte, challenge string) (claims ownershipClaims, err error) {
	parts := strings.Split(challenge, ".")
	if len(parts) != 3 || parts[0] != ownershipHeader {
		return claims, errors.New("ownership_challenge is not what a challenge file holds")
	}
	if !hmac.Equal([]byte(parts[2]), []byte(signatureOf(key, parts[0]+"."+parts[1]))) {
		return claims, errors.New("ownership_challenge has a wrong signature: it was changed, or another platform made it")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims, errors.New("ownership_challenge is not what a challenge file holds")
	}
	return claims, json.Unmarshal(text, &claims)
}

// verifyOwnership says what is wrong with a challenge for a destination of an
// account, as an *errs.Error.
func (s *Server) verifyOwnership(ctx context.Context, accountID, conf, challenge string) error {
	key, err := s.deps.Keys.SigningKey(ctx, ownershipKey)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) error {
		return errs.New(errs.Invalid, codeLogpush, format, args...).At("/ownership_challenge")
	}
	claims, err := readOwnership(key, strings.TrimSpace(challenge))
	if err != nil {
		return refuse("%v", err)
	}
	expires := time.Unix(claims.ExpiresOn, 0)
	switch want := claimOwnership(accountID, conf, expires); {
	case claims.ObjectType != want.ObjectType || claims.ObjectID != want.ObjectID:
		return refuse("ownership_challenge was made for another account")
	case claims.Destination != want.Destination:
		return refuse("ownership_challenge was made for another destination_conf, which must be the same to the last character")
	case !s.now().Before(expires):
		return refuse("ownership_challenge has expired at %s: ask for a new one", expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkOwnership refuses a job's destination that its caller must prove to own and has not.
func (s *Server) checkOwnership(r *request, conf string, challenge *string) error {
	needed, err := s.deps.Destinations.NeedsChallenge(conf)
	if err != nil || !needed || r.rights.Operator() {
		return err
	}
	if challenge == nil || *challenge == "" {
		return errs.New(errs.Invalid, codeLogpush, "ownership_challenge is missing: this destination is written to with the operator's credentials, "+
			"so POST the destination_conf to %s and send what the file holds that is written there", ownershipPath).At("/ownership_challenge")
	}
	return s.verifyOwnership(r.ctx, r.account, conf, *challenge)
}

// ownershipView is a challenge that was written, or why none was.
type ownershipView struct {
	Filename string `json:"filename"`
	validity
	// OwnershipChallenge is what the file holds, for the operator only.
	OwnershipChallenge string `json:"ownership_challenge,omitempty"`
}

func (s *Server) challengeOwnership(r *request) (any, error) {
	conf, err := r.destination()
	if err != nil {
		return nil, err
	}
	view, err := s.writeChallenge(r, conf)
	if _, told := errors.AsType[*errs.Error](err); told {
		return ownershipView{validity: viewValidity(err)}, nil
	}
	return view, err
}

// writeChallenge returns an *errs.Error for what is the destination's fault.
func (s *Server) writeChallenge(r *request, conf string) (view ownershipView, err error) {
	if err := checkConf(conf); err != nil {
		return view, err
	}
	needed, err := s.deps.Destinations.NeedsChallenge(conf)
	if err != nil {
		return view, err
	}
	if !needed {
		scheme, _, _ := strings.Cut(conf, "://")
		return view, errs.New(errs.Invalid, codeLogpush, "this %s destination needs no challenge: create the job without ownership_challenge", scheme)
	}
	key, err := s.deps.Keys.SigningKey(r.ctx, ownershipKey)
	if err != nil {
		return view, err
	}
	challenge, err := signOwnership(key, claimOwnership(r.account, conf, s.now().Add(ownershipLifetime)))
	if err != nil {
		return view, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, destinationTestTimeout)
	defer cancel()
	view.Filename, err = s.deps.Destinations.PutChallenge(ctx, conf, challengeName(), challenge)
	if err != nil {
		if r.ctx.Err() != nil {
			return view, r.ctx.Err()
		}
		return view, destinationError(err)
	}
	view.Valid = true
	if r.rights.Operator() {
		view.OwnershipChallenge = challenge
	}
	return view, nil
}

// challengeName is new each time, so that no file of somebody else's is replaced.
func challengeName() string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	return fmt.Sprintf("ownership-challenge-%x.txt", random)
}

// validateOwnership checks a challenge before a job is made with it.
func (s *Server) validateOwnership(r *request) (any, error) {
	var body struct {
		DestinationConf    *string `json:"destination_conf"`
		OwnershipChallenge *string `json:"ownership_challenge"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	conf, err := given("destination_conf", body.DestinationConf)
	if err != nil {
		return nil, err
	}
	challenge, err := given("ownership_challenge", body.OwnershipChallenge)
	if err != nil {
		return nil, err
	}
	err = s.verifyOwnership(r.ctx, r.account, conf, challenge)
	if _, told := errors.AsType[*errs.Error](err); err != nil && !told {
		return nil, err
	}
	return viewValidity(err), nil
}
