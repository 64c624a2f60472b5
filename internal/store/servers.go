package store

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Server is one that a database's address names.
type Server struct {
	Address string // host:port
	// ClearText says that it is spoken to in clear text (sslmode disable), or where it, or
	// somebody in between, offers no TLS (prefer, which is pgx's default, and allow).
	ClearText bool
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
	var servers []Server
	note := func(host string, port uint16, secure *tls.Config) {
		if strings.HasPrefix(host, "/") { // a folder with a socket
			return
		}
		address := net.JoinHostPort(host, strconv.Itoa(int(port)))
		i := slices.IndexFunc(servers, func(s Server) bool { return s.Address == address })
		if i < 0 {
			i, servers = len(servers), append(servers, Server{Address: address})
		}
		servers[i].ClearText = servers[i].ClearText || secure == nil
	}
	note(config.Host, config.Port, config.TLSConfig)
	for _, f := range config.Fallbacks {
		note(f.Host, f.Port, f.TLSConfig)
	}
	return servers, nil
}
