package app

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/notify"
)

func TestMailServersThatCannotBeUsedAreRefused(t *testing.T) {
	good := SMTPConfig{Address: "mail.example.com:587", From: "Tidegate <tidegate@example.com>", TLS: "starttls", Username: "u", PasswordFile: "p"}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	f := func(flag string, change func(*SMTPConfig)) {
		t.Helper()
		c := good
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%+v gave %v, want something about %s", c, err, flag)
		}
	}
	f("--smtp-address", func(c *SMTPConfig) { c.Address = "mail.example.com" })
	f("--smtp-from", func(c *SMTPConfig) { c.From = "" })
	f("--smtp-from", func(c *SMTPConfig) { c.From = "nobody" })
	f("--smtp-tls", func(c *SMTPConfig) { c.TLS = "ssl" })
	f("--smtp-username needs", func(c *SMTPConfig) { c.TLS = "none" })
	f("--smtp-password-file", func(c *SMTPConfig) { c.PasswordFile = "" })
	f("--smtp-username", func(c *SMTPConfig) { c.Username = "" })
	none := DefaultConfig(RoleRollback).SMTP
	if err := none.validate(); err != nil || notify.MailTLS(none.TLS) != notify.MailStartTLS {
		t.Errorf("without a mail server: %+v, %v", none, err)
	}
}

// The password can be changed while the process runs.
func TestThePasswordIsReadForEachEMail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	server := (&SMTPConfig{PasswordFile: path}).server()
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := server.Password(); err != nil || got != want {
			t.Errorf("the password is %q, error %v; want %q", got, err, want)
		}
	}
}

// The address of a process's own listener is not where people reach it, and another
// process's would differ.
func TestMessagesHaveLinksOnlyWhereTheOperatorSays(t *testing.T) {
	p := &process{log: slog.New(slog.DiscardHandler), config: DefaultConfig(RoleAPI)}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	p.listeners = map[string]net.Listener{listenAPI: listener}
	for _, want := range []string{"", "https://tidegate.example.com"} {
		p.config.ConsoleURL, p.notifier = want, nil
		s, err := p.notifications()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Links.Console; got != want {
			t.Errorf("links lead to %q, want %q", got, want)
		}
	}
}
