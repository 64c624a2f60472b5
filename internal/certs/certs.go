// Package certs sets TLS up from files of PEM, on either side of a connection. The files
// may be replaced at any time: a listener reads them again every few seconds, a client for
// each new connection. Any package may import it.
package certs
