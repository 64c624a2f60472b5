package runtime

// LetsGo is a promise to the gateway: when the body of a response is closed, or
// RoundTrip has failed, nothing is kept of a request that had no body, so that its memory can
// be used for the next one.
func (t *http1) LetsGo() {}
