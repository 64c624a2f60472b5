//go:build !unix

package lean

// watchable says that sockets cannot be looked at here: net/http serves all of them.
const watchable = false

func peerLeft(uintptr) bool { return false }

func shutDown(uintptr) {}

func shutRead(uintptr) {}
