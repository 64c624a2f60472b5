package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/wneessen/go-mail"

	"tidegate/internal/deploy"
)

// MailTLS is how the mail server is spoken to.
type MailTLS string

const (
	MailStartTLS MailTLS = "starttls" // a server that does not offer it gets nothing
	MailTLSOnly  MailTLS = "tls"      // from the first byte on, usually on port 465
	MailPlain    MailTLS = "none"     // only for a server on the same machine or network; without a login
)

// Mail is the server that sends e-mails. It is the operator's, so its address is not
// checked as those of targets are. The zero Mail sends none.
type Mail struct {
	Address string // host:port
	From    string
	TLS     MailTLS
	// Username and Password log in, unless Username is empty. The password is asked for
	// at every message, so that it can be changed.
	Username string
	Password func() (string, error)
	RootCAs  *x509.CertPool // nil: those of the system
}

const (
	// mailStageTimeout bounds the wait for the server at each stage of a message.
	mailStageTimeout = 10 * time.Second
	subjectMax       = 200 // characters
)

// send hands one message to the mail server, which delivers it. Its error is a *failure.
func (m *Mail) send(ctx context.Context, n deploy.Notification, text message) error {
	if m.Address == "" {
		return &failure{text: "this process has no mail server: --smtp-address is not set"}
	}
	if m.From == "" {
		return &failure{text: "e-mails have no sender: --smtp-from is not set"}
	}
	msg, err := mailOf(m.From, n, text)
	if err != nil {
		return err
	}
	client, err := m.client(ctx)
	if err != nil {
		return &failure{text: "the mail server cannot be used as it is configured", detail: err}
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return &failure{text: mailProblem(err), detail: err}
	}
	err = client.SendWithSMTPClient(conn, msg)
	_ = client.CloseWithSMTPClient(conn) // the message was taken or not
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*mail.SendError](err); ok && refused.ErrorCode() > 0 {
		return &failure{
			text:      fmt.Sprintf("the mail server refused the message with %d", refused.ErrorCode()),
			permanent: refused.Reason == mail.ErrSMTPRcptTo && !refused.IsTemp(), // else it is the operator's to mend
			detail:    err,
		}
	}
	return &failure{text: mailProblem(err), detail: err}
}

// client makes a connection of its own for each message: there are few.
func (m *Mail) client(try context.Context) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(m.Address)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(try, "tcp", port)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: m.RootCAs}
	options := []mail.Option{
		mail.WithPort(number), mail.WithTimeout(mailStageTimeout), mail.WithTLSConfig(config),
		mail.WithDialContextFunc(m.dialer(try, net.JoinHostPort(host, strconv.Itoa(number)), config)),
		// A server that takes a message and then fails at a courtesy would get it again.
		mail.WithoutNoop(), mail.WithoutRset(),
	}
	switch m.TLS {
	case MailTLSOnly:
		options = append(options, mail.WithSSL())
	case MailPlain:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if m.Username != "" {
		password, err := m.Password()
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithUsername(m.Username), mail.WithPassword(password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return mail.NewClient(host, options...)
}

// dialer connects so that the end of the try, which the library looks at only until it
// is connected, ends every wait for the server. Of IPv6 the library's own address is none.
func (m *Mail) dialer(try context.Context, address string, config *tls.Config) mail.DialContextFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		bound := &boundConn{conn, context.AfterFunc(try, func() { _ = conn.Close() })}
		if m.TLS != MailTLSOnly {
			return bound, nil
		}
		secure := tls.Client(bound, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, bound.Close())
		}
		return secure, nil
	}
}

// boundConn is a connection that ends with a context, which must not keep it longer.
type boundConn struct {
	net.Conn
	forget func() bool
}

func (c *boundConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// mailProblem says what is wrong in words that hold no address of ours.
func mailProblem(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate of the mail server is not trusted"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "the mail server cannot be reached"
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "the mail server did not answer in time"
	}
	switch text := err.Error(); {
	case strings.Contains(text, "STARTTLS"):
		return "the mail server offers no STARTTLS: --smtp-tls must say how to speak to it"
	case strings.Contains(text, "AUTH"):
		return "the mail server refused the login"
	}
	return "the connection to the mail server broke"
}

// mailOf is the e-mail to the one address of n. Nothing in it that comes from outside
// can become a header: addresses are parsed, and lines are kept single.
func mailOf(from string, n deploy.Notification, m message) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(from); err != nil {
		return nil, &failure{text: "e-mails have no valid sender: --smtp-from must be an address", detail: err}
	}
	to, err := parseAddress(n.Target.Name())
	if err != nil {
		return nil, &failure{text: "the target's address is none", permanent: true}
	}
	if err := msg.To(to); err != nil {
		return nil, &failure{text: "the target's address cannot be written to", permanent: true}
	}
	msg.Subject(oneLine("[Tidegate] "+m.title, subjectMax))
	sender, err := netmail.ParseAddress(from)
	if err != nil {
		return nil, &failure{text: "e-mails have no valid sender: --smtp-from must be an address", detail: err}
	}
	_, domain, _ := strings.Cut(sender.Address, "@")
	msg.SetMessageIDWithValue(n.ID + "@" + domain) // a repeat is told by it
	msg.SetDateWithValue(n.CreatedOn)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader(IDHeader, n.ID)
	var plain, html strings.Builder
	view := mailView(m)
	if err := errors.Join(plainMail.Execute(&plain, view), htmlMail.Execute(&html, view)); err != nil {
		return nil, &failure{text: "the e-mail could not be written", permanent: true, detail: err}
	}
	msg.SetBodyString(mail.TypeTextPlain, plain.String())
	msg.AddAlternativeString(mail.TypeTextHTML, html.String())
	return msg, nil
}

// parseAddress returns the bare address of one mailbox.
func parseAddress(text string) (string, error) {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", errors.New("an address has no control characters")
	}
	address, err := netmail.ParseAddress(text)
	if err != nil {
		return "", err
	}
	return address.Address, nil
}

// oneLine makes one line of at most limit characters of s.
func oneLine(s string, limit int) string {
	line := []rune(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s))
	return string(line[:min(len(line), limit)])
}

type mailFact struct{ Name, Value string }

type mailContent struct {
	Title, Sentence, Console, History string
	Facts                             []mailFact
}

func mailView(m message) mailContent {
	v := mailContent{Title: m.title, Sentence: m.sentence, Console: m.console, History: m.history}
	for _, f := range m.facts {
		v.Facts = append(v.Facts, mailFact{f.name, f.value})
	}
	return v
}

var plainMail = texttemplate.Must(texttemplate.New("plain").Parse(`{{.Sentence}}

{{range .Facts}}{{.Name}}: {{.Value}}
{{end}}{{if .Console}}
Tidegate: {{.Console}}
Decisions: {{.History}}
{{end}}`))

var htmlMail = template.Must(template.New("html").Parse(`<!doctype html>
<html><body>
<h2>{{.Title}}</h2>
<p>{{.Sentence}}</p>
<table>{{range .Facts}}
<tr><th align="left">{{.Name}}</th><td>{{.Value}}</td></tr>{{end}}
</table>{{if .Console}}
<p><a href="{{.Console}}">Open Tidegate</a>, <a href="{{.History}}">decisions</a></p>{{end}}
</body></html>
`))
