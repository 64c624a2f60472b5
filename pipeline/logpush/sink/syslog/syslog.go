// Package syslog is the destination for syslog receivers: one message of RFC 5424 a
// record, over TLS (RFC 5425), TCP (RFC 6587, octet counting) or UDP (RFC 5426).
//
//	syslog://<host>:<port>?[transport=tls|tcp|udp][&facility=local0][&hostname=tidegate]
//	  [&app-name=<instead of the script's name>][&sd-id=tidegate@32473][&confirm=close|none]
//
// Syslog has no acknowledgement. Over TLS and TCP each batch has a connection of its
// own, which we end after the last message; the batch counts as taken once the
// receiver has ended it, too, without a complaint and after it had all of it, because then
// it has read all of it.
// confirm=none is for receivers that keep connections open: then a batch counts as
// taken when the kernel has it, and what is under way when a connection breaks is
// lost. Over UDP that is so in any case.
package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/parameters"
)

// Options of every syslog destination.
type Options struct {
	Egress egress.Policy
}

type sink struct {
	egress    egress.Policy
	transport string // tls, tcp or udp
	host      string
	address   string
	confirm   bool
	form      form
}

// maxDatagram is what fits into one datagram over IPv4, whose sizes have 16 bits,
// headers included. Receivers may cut sooner: RFC 5426 only asks for 480 bytes.
const maxDatagram = 65_507

// known parameters, none of which is required.
var known = map[string]bool{"transport": false, "facility": false, "hostname": false, "app-name": false, "sd-id": false, "confirm": false}

// New returns the sink of a syslog:// URL. TCP and UDP only where the policy allows
// plain HTTP, too.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	if err := parameters.Check(u.Scheme, query, known); err != nil {
		return nil, err
	}
	if u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, errors.New("write syslog://<host>:<port>, without a path")
	}
	s := &sink{egress: options.Egress, transport: orElse(query.Get("transport"), "tls"), host: u.Hostname()}
	ports := map[string]string{"tls": "6514", "tcp": "601", "udp": "514"} // as IANA has them
	port, ok := ports[s.transport]
	if !ok {
		return nil, fmt.Errorf("the parameter transport is %q: tls, tcp and udp are possible", s.transport)
	}
	if s.transport != "tls" && !options.Egress.AllowHTTP {
		return nil, fmt.Errorf("the parameter transport=%s is not allowed here: use TLS, or ask the operator to allow destinations without it", s.transport)
	}
	s.address = net.JoinHostPort(s.host, orElse(u.Port(), port))
	switch confirm := query.Get("confirm"); confirm {
	case "", "close":
		s.confirm = s.transport != "udp"
	case "none":
	default:
		return nil, fmt.Errorf("the parameter confirm is %q: close and none are possible", confirm)
	}
	var err error
	s.form, err = newForm(query)
	return s, err
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// Traits implements logpush.Traiter.
func (s *sink) Traits() logpush.Traits {
	t := logpush.Traits{Records: true, InOrder: true}
	if s.transport == "udp" {
		t.MaxRecordBytes = maxDatagram - maxHead
	}
	return t
}

// Put implements logpush.Sink.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	err := s.put(ctx, &o)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if e, ok := errors.AsType[*logpush.UploadError](err); ok {
		return e
	}
	return egress.Classify(err)
}

func (s *sink) put(ctx context.Context, o *logpush.Object) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends whatever waits
	if s.transport == "udp" {
		return s.sendDatagrams(conn, o)
	}
	return s.deliver(conn, o)
}

func (s *sink) deliver(conn net.Conn, o *logpush.Object) error {
	if err := s.sendFrames(conn, o); err != nil || !s.confirm {
		return err
	}
	return awaitEnd(conn)
}

func (s *sink) dial(ctx context.Context) (net.Conn, error) {
	switch s.transport {
	case "tls":
		return s.egress.DialTLS(ctx, "tcp", s.address, s.host)
	case "tcp":
		return s.egress.Dial(ctx, "tcp", s.address)
	}
	return s.egress.Dial(ctx, "udp", s.address)
}

// sendFrames writes each message after its length (RFC 6587, 3.4.1; RFC 5425, 4.3).
func (s *sink) sendFrames(conn net.Conn, o *logpush.Object) error {
	out := bufio.NewWriterSize(conn, 64<<10)
	var message, length []byte
	for i := range o.Items {
		message = s.form.append(message[:0], o, i)
		length = append(strconv.AppendInt(length[:0], int64(len(message)), 10), ' ')
		if _, err := out.Write(length); err != nil {
			return err
		}
		if _, err := out.Write(message); err != nil {
			return err
		}
	}
	return out.Flush()
}

// sendDatagrams fails for records that fit into none, after it sent the others.
func (s *sink) sendDatagrams(conn net.Conn, o *logpush.Object) error {
	var message []byte
	var refused []int
	for i := range o.Items {
		message = s.form.append(message[:0], o, i)
		if len(message) > maxDatagram {
			refused = append(refused, i)
			continue
		}
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
	if refused == nil {
		return nil
	}
	return &logpush.UploadError{Text: fmt.Sprintf("a record is larger than a datagram, %d bytes", maxDatagram), Permanent: true, Records: refused}
}

// awaitEnd ends our half of the connection and waits until the receiver ends its own. An end counts only after all that
// we sent was acknowledged: a receiver that hangs up at once, as one with too many connections does, ends it as well.
func awaitEnd(conn net.Conn) error {
	if err := endBoth(conn); err != nil {
		return err
	}
	if secure, ok := conn.(*tls.Conn); ok { // what is in it has ended; a connection with unread data is reset
		conn = secure.NetConn()
		if err := endBoth(conn); err != nil {
			return err
		}
	}
	switch left, err := egress.Unacknowledged(conn); {
	case err != nil:
		return err
	case left > 0:
		return &logpush.UploadError{Text: "the receiver ended the connection before it had the batch"}
	}
	return nil
}

func endBoth(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, conn, 1<<10) // a receiver has nothing to say
	switch t, isNet := errors.AsType[net.Error](err); {
	case err == nil:
		return &logpush.UploadError{Text: "the receiver answers: it does not speak syslog"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil // the latter is TLS without a farewell; unread data would have made it a reset
	case isNet && t.Timeout():
		return &logpush.UploadError{Status: logpush.StatusTimeout, Text: "timeout: the receiver did not end the connection after the last message; " +
			"if it never does, confirm=none takes its batches as delivered without that"}
	}
	return err
}
