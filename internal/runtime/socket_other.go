//go:build !unix

package runtime

import "net"

// rawSocket cannot look at a connection without reading from it here: a dead one
// is noticed when it is used.
type rawSocket struct{}

func (*rawSocket) init(net.Conn)     {}
func (*rawSocket) alive() bool       { return true }
func (*rawSocket) canExchange() bool { return false }

func (*rawSocket) exchange([]byte, []byte, bool) (sent, n int, err error) {
	panic("exchange without a socket") // canExchange says so
}
