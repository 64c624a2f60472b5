package gateway

import (
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// hop is one element of Forwarded (RFC 7239): what a proxy tells of the request
// that it got. Members are empty where it says nothing.
type hop struct{ by, node, proto, host string }

// maxHops bounds what is read of one request. Chains of proxies are short.
const maxHops = 32

// parseForwarded returns the elements of one field line, the nearest proxy's last.
// One mistake spoils the line: quotes decide where an element ends, so that what
// follows one that is not closed could be anybody's word.
func parseForwarded(line string) ([]hop, bool) {
	var hops []hop
	for rest, more := line, true; more; {
		var h hop
		ended := false
		for !ended {
			var name, value string
			var ok bool
			if name, value, rest, ok = forwardedPair(rest); !ok || !h.set(name, value) {
				return nil, false
			}
			switch {
			case rest == "":
				ended, more = true, false
			case rest[0] == ',':
				ended = true
			case rest[0] != ';':
				return nil, false
			}
			if rest != "" {
				rest = rest[1:]
			}
		}
		if h != (hop{}) { // a list may have empty elements (RFC 9110, section 5.6.1)
			if hops = append(hops, h); len(hops) > maxHops {
				return nil, false
			}
		}
	}
	return hops, true
}

// set notes one pair. A name must not come twice, and unknown ones are left alone.
func (h *hop) set(name, value string) bool {
	var member *string
	switch strings.ToLower(name) {
	case "for":
		member = &h.node
	case "by":
		member = &h.by
	case "proto":
		member = &h.proto
	case "host":
		member = &h.host
	default:
		return true
	}
	if *member != "" || value == "" {
		return false
	}
	*member = value
	return true
}

// forwardedPair reads a name and its value, which may be quoted. What is left
// begins with the separator. An empty pair is allowed and has no name.
func forwardedPair(s string) (name, value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if s == "" || s[0] == ',' || s[0] == ';' {
		return "", "", s, true
	}
	name, s, ok = strings.Cut(s, "=")
	if !ok || !httpguts.ValidHeaderFieldName(name) { // a token
		return "", "", "", false
	}
	if strings.HasPrefix(s, `"`) {
		value, s, ok = unquote(s)
	} else {
		end := strings.IndexAny(s, ",; \t")
		if end < 0 {
			end = len(s)
		}
		// Addresses with a port need quotes, but many senders leave them out.
		value, s = s[:end], s[end:]
		ok = !strings.ContainsAny(value, `"\`)
	}
	return name, value, strings.TrimLeft(s, " \t"), ok
}

// unquote reads the quoted string that s begins with.
func unquote(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// nodeAddress returns the address of a node identifier: an IP address, with a port
// or not, IPv6 in brackets. Obfuscated and unknown nodes have none. However a node is
// written, its address is as it would be of a connection: a client is one key of affinity.
func nodeAddress(node string) (string, bool) {
	if ap, err := netip.ParseAddrPort(node); err == nil {
		return ap.Addr().Unmap().String(), ap.Addr().Zone() == ""
	}
	bare, bracketed := strings.CutPrefix(node, "[")
	if bracketed {
		if bare, bracketed = strings.CutSuffix(bare, "]"); !bracketed {
			return "", false
		}
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return "", false
	}
	return ip.Unmap().String(), true
}

// believeForwarded takes from Forwarded what the trusted proxies say, as
// clientOf does from X-Forwarded-*. It walks from the nearest proxy to the
// first that is not trusted: further left may be the client's invention. The
// scheme and host are those of the last hop that it believes.
func (g *Gateway) believeForwarded(c *client, lines []string, peer string) {
	var chain []string // of addresses, the nearest first
walk:
	for i := len(lines) - 1; i >= 0; i-- {
		hops, ok := parseForwarded(lines[i])
		if !ok || len(chain)+len(hops) > maxHops {
			break
		}
		for j := len(hops) - 1; j >= 0; j-- {
			h := hops[j]
			if proto := strings.ToLower(h.proto); proto == "http" || proto == "https" {
				c.scheme = proto
			}
			if httpguts.ValidHostHeader(h.host) && h.host != "" {
				c.host = h.host
			}
			address, ok := nodeAddress(h.node)
			if !ok {
				break walk
			}
			c.ip = address
			chain = append(chain, address)
			if !g.trusted(address) {
				break walk
			}
		}
	}
	if len(chain) == 0 {
		return
	}
	var list strings.Builder
	for i := len(chain) - 1; i >= 0; i-- {
		list.WriteString(chain[i])
		list.WriteString(", ")
	}
	c.forward = list.String() + peer
}
