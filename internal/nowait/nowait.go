// Package nowait reads and writes sockets without ever waiting. What it does is for the
// callbacks of a syscall.RawConn, which knows how to wait. A RawConn's own wait for room
// goes by the deadlines of the connection, and by nothing else: where those are somebody
// else's, what is left is for the connection's Write.
package nowait
