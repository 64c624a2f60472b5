package listen

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/mholt/acmez/v3/acme"
)

// Challenges by which an authority finds out that a name leads here.
var acmeChallenges = []string{acme.ChallengeTypeTLSALPN01, acme.ChallengeTypeHTTP01}

// LetsEncrypt is the directory of the authority that most people use.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// ACMEConfig says where certificates come from (RFC 8555), and for whom they may be
// asked for. To name an authority is to agree to its terms.
type ACMEConfig struct {
	// Directory is the authority's URL.
	Directory string
	// Email is given to the authority with a new account; it may be empty.
	Email string
	// EABKeyID and EABKey bind a new account to one that its holder has with the
	// authority already, where that is asked for. The key is in base64 for URLs.
	EABKeyID, EABKey string
	// Dir keeps the account, certificates and keys. Routers that share it answer each
	// other's challenges, and one of them at a time asks for a name.
	Dir string
	// Hosts are asked for without waiting for a visit.
	Hosts []string
	// Allowed reports whether a host may be asked for. It is called on every handshake
	// without a certificate, and may be called concurrently.
	Allowed func(host string) bool
	// Challenges are tried in the order in which the authority accepted most; none is
	// tls-alpn-01, which the TLS listener answers, and http-01, the other one's.
	Challenges []string
	Logger     *slog.Logger
}

// Validate names the first member that cannot be used.
func (c *ACMEConfig) Validate() error {
	if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("the ACME directory is %q: it must be an https:// URL", c.Directory)
	}
	if (c.EABKeyID == "") != (c.EABKey == "") {
		return errors.New("the key id and the key of an external ACME account are needed together")
	}
	for _, host := range c.Hosts {
		if !validHost(host) {
			return fmt.Errorf("the ACME host %q is not the full name of a host, without a wildcard", host)
		}
	}
	for _, challenge := range c.Challenges {
		if !slices.Contains(acmeChallenges, challenge) {
			return fmt.Errorf("the ACME challenge %q is not known here: there are %s", challenge, strings.Join(acmeChallenges, " and "))
		}
	}
	return nil
}
