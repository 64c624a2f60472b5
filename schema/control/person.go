package control

import (
	"crypto/sha256"
	"encoding/hex"
)

// Person is somebody whom an identity provider knows, as it told when they signed in.
type Person struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"` // the issuer gives it to nobody else, ever
	// Email names them as the author of what they do: their address, or, where the issuer
	// tells none or says that it is not theirs, their subject.
	Email string `json:"email"`
	// EmailVerified says that the issuer has proof that Email is theirs.
	EmailVerified bool     `json:"email_verified"`
	Name          string   `json:"name"`
	Groups        []string `json:"groups"`
}

// ID is 32 hex digits, as a token's. It stays the same when anything but the issuer and the
// subject changes.
func (p *Person) ID() string {
	sum := sha256.Sum256([]byte("person\x00" + p.Issuer + "\x00" + p.Subject))
	return hex.EncodeToString(sum[:16])
}
