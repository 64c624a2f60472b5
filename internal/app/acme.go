package app

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"tidegate/internal/gateway/listen"
)

// ACMEConfig says how the gateway gets certificates for the names that it serves. Its
// members are flags that begin with --gateway-acme-.
type ACMEConfig struct {
	Agree      bool // to the authority's terms of service; without it there is no ACME
	Directory  string
	Email      string
	Hosts      []string // that certificates are for; without any, for whatever a script names
	Challenges []string // of which the authority may choose; empty for all
	EABKeyID   string
	EABKeyFile string // holds the key of EABKeyID
}

func (c *ACMEConfig) bind(f *pflag.FlagSet) {
	f.BoolVar(&c.Agree, "gateway-acme-agree", c.Agree, "agree to the terms of service of --gateway-acme-directory, and get certificates from there for hosts that are served and have none in files")
	f.StringVar(&c.Directory, "gateway-acme-directory", c.Directory, "ACME directory of the certificate authority")
	f.StringVar(&c.Email, "gateway-acme-email", c.Email, "address that the authority may write to")
	f.StringSliceVar(&c.Hosts, "gateway-acme-hosts", c.Hosts, "get certificates for these hosts alone, at start; without it, for any host that a script, a version or a route names, at the first visit")
	f.StringSliceVar(&c.Challenges, "gateway-acme-challenges", c.Challenges, "tls-alpn-01 (port 443 leads to --gateway-tls-addr) and http-01 (port 80 leads to --gateway-addr); empty for both")
	f.StringVar(&c.EABKeyID, "gateway-acme-eab-key-id", c.EABKeyID, "id of the external account that the authority asks for")
	f.StringVar(&c.EABKeyFile, "gateway-acme-eab-key-file", c.EABKeyFile, "file with the HMAC key of that account, in base64 for URLs")
}

func (c *ACMEConfig) validate() error {
	if !c.Agree {
		if c.Email != "" || len(c.Hosts) > 0 || len(c.Challenges) > 0 || c.EABKeyID != "" || c.EABKeyFile != "" || c.Directory != listen.LetsEncrypt {
			return errors.New("the flags that begin with --gateway-acme- need --gateway-acme-agree: no certificate is issued to those who do not agree to the authority's terms")
		}
		return nil
	}
	config := c.listen()
	config.EABKey = c.EABKeyFile // whose content is read when it is used
	if err := config.Validate(); err != nil {
		return fmt.Errorf("--gateway-acme-...: %w", err)
	}
	return nil
}

func (c *ACMEConfig) listen() listen.ACMEConfig {
	return listen.ACMEConfig{
		Directory: c.Directory, Email: c.Email, Hosts: c.Hosts, Challenges: c.Challenges, EABKeyID: c.EABKeyID,
	}
}

// servedHosts says for whom the gateway is there.
type servedHosts interface {
	// NamesHost tells of hosts that are named in full, ServesHost also of those below
	// a wildcard.
	NamesHost(host string) bool
	ServesHost(host string) bool
}

// acme adds what gets certificates from an authority; nil if nobody agreed to its terms.
func (p *process) acme(hosts servedHosts) (*listen.ACME, error) {
	c := &p.config.Gateway.ACME
	if !c.Agree {
		return nil, nil
	}
	config := c.listen()
	config.Dir, config.Logger = filepath.Join(p.config.DataDir, "acme"), p.log
	config.Allowed = hosts.NamesHost
	if len(c.Hosts) > 0 {
		config.Allowed = func(host string) bool { return slices.Contains(c.Hosts, host) && hosts.ServesHost(host) }
	}
	if c.EABKeyFile != "" {
		key, err := os.ReadFile(c.EABKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the key of the external ACME account from --gateway-acme-eab-key-file: %w", err)
		}
		config.EABKey = strings.TrimSpace(string(key))
	}
	acme, err := listen.NewACME(config)
	if err != nil {
		return nil, err
	}
	p.services = append(p.services, service{"ACME", stageRouting, acme.Run})
	return acme, nil
}

// answersChallenges puts the answers to http-01 before a handler: an authority asks
// for them in clear text.
func answersChallenges(name string, acme *listen.ACME, handler http.Handler) http.Handler {
	if acme == nil || name != listenGateway {
		return handler
	}
	return acme.Handler(handler)
}
