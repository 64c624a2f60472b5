package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/deploy"
	"tidegate/internal/notify"
	"tidegate/internal/store"
	"tidegate/pipeline/logpush/sink/egress"
)

// SMTPConfig is the mail server for targets of the type email.
type SMTPConfig struct {
	Address      string // host:port; empty for no e-mail
	From         string
	Username     string
	PasswordFile string
	TLS          string // a notify.MailTLS
}

func (c *SMTPConfig) bind(f *pflag.FlagSet) {
	f.StringVar(&c.Address, "smtp-address", c.Address, "mail server, host:port, for notifications by e-mail; empty for none")
	f.StringVar(&c.From, "smtp-from", c.From, "sender of e-mails, such as tidegate@example.com")
	f.StringVar(&c.Username, "smtp-username", c.Username, "login at the mail server; empty for none")
	f.StringVar(&c.PasswordFile, "smtp-password-file", c.PasswordFile, "file with the password for --smtp-username; read for every e-mail")
	f.StringVar(&c.TLS, "smtp-tls", c.TLS, "how the mail server is spoken to: starttls, tls (from the first byte on, usually port 465) or none")
}

func (c *SMTPConfig) validate() error {
	if c.Address == "" {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		fault("--smtp-address is %q: it must be host:port", c.Address)
	}
	if _, err := mail.ParseAddress(c.From); err != nil {
		fault("--smtp-from is %q: it must be an address such as tidegate@example.com, because --smtp-address is set", c.From)
	}
	switch mode := notify.MailTLS(c.TLS); mode {
	case notify.MailStartTLS, notify.MailTLSOnly:
	case notify.MailPlain:
		if c.Username != "" {
			fault("--smtp-username needs --smtp-tls %s or %s: else the password could be read on its way", notify.MailStartTLS, notify.MailTLSOnly)
		}
	default:
		fault("--smtp-tls is %q: it must be %s, %s or %s", c.TLS, notify.MailStartTLS, notify.MailTLSOnly, notify.MailPlain)
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		fault("--smtp-username and --smtp-password-file are needed together")
	}
	return errors.Join(faults...)
}

func (c *SMTPConfig) server() notify.Mail {
	return notify.Mail{
		Address: c.Address, From: c.From, TLS: notify.MailTLS(c.TLS), Username: c.Username,
		Password: func() (string, error) {
			text, err := os.ReadFile(c.PasswordFile)
			return strings.TrimRight(string(text), "\r\n"), err
		},
	}
}

// notifications tells of rollback decisions; the same for the roles of one process.
func (p *process) notifications() (*notify.Service, error) {
	if p.notifier != nil {
		return p.notifier, nil
	}
	policy := p.egress()
	var err error
	p.notifier, err = notify.New(notify.Config{
		Outbox: p.store, Client: policy.Client(), CheckScheme: policy.CheckScheme,
		Explain: func(err error) (string, bool) {
			e := egress.Classify(err)
			return e.Text, e.Permanent
		},
		Mail: p.config.SMTP.server(), Links: notify.Links{Console: p.config.ConsoleURL}, Log: p.log, Now: time.Now,
	})
	return p.notifier, err
}

// tellingStore has what was decided told at once, and not at the next look. Traffic has
// moved by then.
type tellingStore struct {
	*store.Store
	wake func()
}

// ApplyDecision is the store's.
func (s tellingStore) ApplyDecision(ctx context.Context, accountID, script string, judged deploy.Judged,
	d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
	err := s.Store.ApplyDecision(ctx, accountID, script, judged, d, ramp, decision)
	if err == nil {
		s.wake()
	}
	return err
}
