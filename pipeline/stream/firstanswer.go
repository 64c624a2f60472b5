package stream

import (
	"encoding/binary"
	"fmt"
	"net"
)

// firstAnswer is a connection whose first answer must be one of Kafka's. kafka-go takes
// numbers of elements from whatever comes: of a web server's refusal it makes room for
// 808,460,354 ("00 B" of "400 Bad Request"), 4.9 GB, and does so again with each attempt.
//
// It is read by one goroutine at a time, as clients do.
type firstAnswer struct {
	net.Conn
	size [4]byte // of the answer, as the protocol has it before each
	seen int     // bytes of it
}

func (c *firstAnswer) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.seen < len(c.size) {
		c.seen += copy(c.size[c.seen:], b[:n])
		if wrong := c.wrong(); wrong != nil {
			return 0, wrong
		}
	}
	return n, err
}

// wrong returns an error that says what to do if the other side does not speak Kafka.
func (c *firstAnswer) wrong() error {
	if size := binary.BigEndian.Uint32(c.size[:]); c.seen < len(c.size) || size <= answerBytesMax {
		return nil
	}
	err := fmt.Errorf("the answer of %s begins with %q, which is no size that one of Kafka's has", c.RemoteAddr(), c.size[:])
	switch {
	case string(c.size[:]) == "HTTP":
		return explained{err, "this is the port of a web server: name that of a Kafka listener"}
	case c.size[0] == 21 && c.size[1] == 3: // an alert of TLS, RFC 8446, section 5.1
		return explained{err, "it speaks TLS on this port: check which of TLS and a login this listener expects"}
	}
	return explained{err, "name the port of a Kafka listener"}
}
