// Package signature proves to a receiver that a body comes from whoever knows a
// secret, and when it was sent.
//
// The header Tidegate-Signature is "t=<unix seconds>,v1=<hex>", where <hex> is the
// HMAC-SHA256, keyed with the secret, of the text "<unix seconds>." followed by the
// body as it was transferred: still compressed, where Content-Encoding says so.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Header carries the signature.
const Header = "Tidegate-Signature"

// SecretMin is the least length of a secret in bytes: shorter ones can be guessed.
const SecretMin = 16

// Sign returns the header's value for a body. Its error is the body's.
func Sign(secret string, at time.Time, body io.Reader) (string, error) {
	seconds := strconv.FormatInt(at.Unix(), 10)
	sum, err := digest(secret, seconds, body)
	if err != nil {
		return "", err
	}
	return "t=" + seconds + ",v1=" + hex.EncodeToString(sum), nil
}

func digest(secret, seconds string, body io.Reader) ([]byte, error) {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, seconds+".") // a hash takes everything
	if _, err := io.Copy(mac, body); err != nil {
		return nil, fmt.Errorf("read the body to sign: %w", err)
	}
	return mac.Sum(nil), nil
}

// Why a signature does not hold.
var (
	ErrMalformed = errors.New("the signature is not of the form t=<unix seconds>,v1=<hex>")
	ErrStale     = errors.New("the signature's time is too far from now")
	ErrMismatch  = errors.New("the signature does not belong to this body and secret")
)

// Verify returns nil when the header's value was made with secret for body, at
// most tolerance before or after now; otherwise one of the errors above, or the
// body's. Members that it does not know are passed over, and of several v1, as
// while a secret is changed, one is enough.
func Verify(secret, header string, body io.Reader, now time.Time, tolerance time.Duration) error {
	seconds := ""
	var sums [][]byte
	for member := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(member), "="); name {
		case "t":
			if seconds != "" {
				return ErrMalformed
			}
			seconds = value
		case "v1":
			sum, err := hex.DecodeString(value)
			if err != nil || len(sum) != sha256.Size {
				return ErrMalformed
			}
			sums = append(sums, sum)
		}
	}
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || len(sums) == 0 {
		return ErrMalformed
	}
	// Both ends, because the difference of far times would overflow.
	if at < now.Add(-tolerance).Unix() || at > now.Add(tolerance).Unix() {
		return ErrStale
	}
	want, err := digest(secret, seconds, body)
	if err != nil {
		return err
	}
	for _, sum := range sums {
		if hmac.Equal(sum, want) {
			return nil
		}
	}
	return ErrMismatch
}
