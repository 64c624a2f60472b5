package notify

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// answerMax is how much of an answer is read, so that its connection can be used again.
const answerMax = 4096

// post sends what request makes. Nothing of an answer but its status is
// shown: whoever may name a target must not read what is behind it.
func (s *Service) post(ctx context.Context, request func() (*http.Request, error)) error {
	req, err := request()
	if err != nil { // its text may have the URL
		return &failure{text: "the target's URL cannot be used", permanent: true}
	}
	if err := s.CheckScheme(req.URL.Scheme); err != nil {
		return &failure{text: err.Error(), permanent: true}
	}
	res, err := s.Client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return &failure{text: fmt.Sprintf("the target did not answer within %s", tryTimeout)}
		}
		text, permanent := s.Explain(err)
		return &failure{text: text, permanent: permanent}
	}
	_, _ = io.CopyN(io.Discard, res.Body, answerMax) // its status is all that counts
	_ = res.Body.Close()
	return answered(res.StatusCode, res.Header.Get("Retry-After"), s.Now())
}

// answered reads an answer. A refusal is final, as Alertmanager takes it for its own
// receivers; what says that it is busy or broken is tried again.
func answered(status int, retryAfter string, now time.Time) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		return &failure{text: fmt.Sprintf("the target answered %d: redirects are not followed, so its URL must be where they lead", status), permanent: true}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return &failure{text: fmt.Sprintf("the target answered %d", status), after: parseRetryAfter(retryAfter, now)}
	}
	return &failure{text: fmt.Sprintf("the target refused the message with %d", status), permanent: true}
}

// parseRetryAfter reads seconds or a date (RFC 9110, 10.2.3); 0 for neither.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
