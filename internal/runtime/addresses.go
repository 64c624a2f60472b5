package runtime

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"tidegate/internal/addresses"
)

// OriginAddresses says where origins may be. The zero value takes all but link-local
// addresses and those of clouds' metadata services, which have the credentials of the
// machine: origins in private ranges are the rule.
type OriginAddresses struct {
	AllowLinkLocal bool
	DenyPrivate    bool // and loopback, and other special ranges
	// Own tells the platform's own addresses, which trust whoever reaches them. It must not wait,
	// and may be called concurrently. nil knows none.
	Own func(netip.AddrPort) bool
}

// Check refuses, with a reason, an address at which no origin may be.
func (o OriginAddresses) Check(at netip.AddrPort) error {
	addr := at.Addr()
	if o.Own != nil && o.Own(at) {
		return fmt.Errorf("no origin may be at %s, which is the platform's own (--origins-refuse)", at)
	}
	if !o.AllowLinkLocal && addresses.LinkLocal(addr) {
		return fmt.Errorf("no origin may be at %s, which is a link-local address or that of a cloud's metadata service (--origins-allow-link-local)", addr)
	}
	if o.DenyPrivate && addresses.Special(addr) && !(o.AllowLinkLocal && addresses.LinkLocal(addr)) {
		return fmt.Errorf("no origin may be at %s, which is not a public address (--origins-deny-private)", addr)
	}
	return nil
}

// originDialer connects to origins. It checks the address that is connected to, after its name
// was looked up: the next look-up may lead elsewhere.
func originDialer(cfg Config) net.Dialer {
	return net.Dialer{Timeout: cfg.DialTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("check the origin's address %s: %w", address, err)
		}
		return cfg.Origins.Check(at)
	}}
}
