package store

import (
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Server is one that a database's address names.
type Server struct {
	Address string // host:port
	// Downgrades says that it is spoken to over TLS or in clear text, whichever it offers, or
	// somebody in between (sslmode prefer, which is pgx's default, and allow).
	Downgrades bool
}

// Servers are those that a database's address names, without connecting; none for a file or a
// Unix socket.
func Servers(databaseURL string) ([]Server, error) {
	if !isPostgres(databaseURL) {
		return nil, nil
	}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", redactURL(databaseURL), err)
	}
	type ways struct{ plain, tls bool }
	var list []string
	seen := map[string]ways{}
	note := func(host string, port uint16, secure *tls.Config) {
		if strings.HasPrefix(host, "/") { // a folder with a socket
			return
		}
		address := net.JoinHostPort(host, strconv.Itoa(int(port)))
		w, known := seen[address]
		if !known {
			list = append(list, address)
		}
		seen[address] = ways{w.plain || secure == nil, w.tls || secure != nil}
	}
	note(config.Host, config.Port, config.TLSConfig)
	for _, f := range config.Fallbacks {
		note(f.Host, f.Port, f.TLSConfig)
	}
	servers := make([]Server, len(list))
	for i, address := range list {
		servers[i] = Server{address, seen[address] == ways{true, true}}
	}
	return servers, nil
}
