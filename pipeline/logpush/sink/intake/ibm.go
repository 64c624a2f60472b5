package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidegate/pipeline/logpush"
)

const (
	paramIBMKey = "ibm_api_key"
	ibmIAM      = "https://iam.cloud.ibm.com/identity/token"
	// ibmRefresh before a token ends, a new one is fetched.
	ibmRefresh = time.Minute
	// ibmSecondsMax a token is believed to be good for; theirs are for an hour. A number
	// that no duration holds would come out as any other.
	ibmSecondsMax = 24 * 60 * 60
)

var ibmRules = rules{
	path:     "/logs/v1/singles",
	paths:    []string{"/logs/v1/singles"},
	required: []string{paramIBMKey},
	taken:    []string{paramIBMKey},
}

// ibm posts JSON arrays to IBM Cloud Logs with a token that it gets for an API key.
// A record that has an applicationName, as output options can make it, is sent as
// it is; any other becomes the text of one.
type ibm struct {
	*endpoint
	iam, key string

	mu    sync.Mutex
	token string    // empty for none
	until time.Time // when the token is to be replaced
}

func openIBM(e *endpoint, p params, o Options) (logpush.Sink, error) {
	if e.header.Get("Authorization") != "" {
		return nil, errors.New("header_Authorization cannot be set: ibmcl gets its own token for " + paramIBMKey)
	}
	return &ibm{endpoint: e, key: p[paramIBMKey], iam: cmp.Or(o.iam, ibmIAM)}, nil
}

// Traits implements logpush.Traiter. The intake takes 2 MB a request; what is put
// around a record has less than 166 bytes, and 3,000 of those fit in the rest.
func (*ibm) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 1_500_000, MaxRecords: 3000, MaxRecordBytes: 1_500_000, Records: true}
}

// Put implements logpush.Sink.
func (s *ibm) Put(ctx context.Context, o logpush.Object) error {
	token, fresh, err := s.authorize(ctx)
	if err != nil {
		return err
	}
	err = s.send(ctx, &o, token)
	if e, ok := errors.AsType[*logpush.UploadError](err); ok && e.Status == http.StatusUnauthorized && !fresh {
		// Tokens can be taken back before they end.
		s.forget(token)
		if token, _, err = s.authorize(ctx); err != nil {
			return err
		}
		err = s.send(ctx, &o, token)
	}
	return err
}

func (s *ibm) send(ctx context.Context, o *logpush.Object, token string) error {
	e := *s.endpoint
	e.header = e.header.Clone()
	e.header.Set("Authorization", "Bearer "+token)
	err := e.postArray(ctx, o, appendIBM)
	if e, ok := errors.AsType[*logpush.UploadError](err); ok {
		e.Text = strings.ReplaceAll(e.Text, token, "***")
	}
	return err
}

// appendIBM appends one entry: https://cloud.ibm.com/docs/cloud-logs?topic=cloud-logs-send-logs-api
func appendIBM(to []byte, item *logpush.Item) []byte {
	var own struct {
		ApplicationName *string `json:"applicationName"`
	}
	object := isObject(item.Text)
	if object && json.Unmarshal(item.Text, &own) == nil && own.ApplicationName != nil {
		return append(to, item.Text...)
	}
	severity := 3 // info
	if failed(item.Outcome) {
		severity = 5 // error
	}
	to = append(to, `{"applicationName":"tidegate","subsystemName":`...)
	to = appendString(to, []byte(cmp.Or(item.Script, "logpush")))
	to = append(to, `,"severity":`...)
	to = strconv.AppendInt(to, int64(severity), 10)
	to = append(to, `,"timestamp":`...)
	to = strconv.AppendInt(to, item.Time.UnixMilli(), 10)
	to = append(to, `,"text":`...)
	if object {
		to = append(to, item.Text...)
	} else {
		to = appendString(to, item.Text)
	}
	return append(to, '}')
}

// authorize returns a token, and whether it was fetched just now.
func (s *ibm) authorize(ctx context.Context) (token string, fresh bool, err error) {
	s.mu.Lock()
	token, until := s.token, s.until
	s.mu.Unlock()
	if token != "" && time.Now().Before(until) {
		return token, false, nil
	}
	// Outside the lock: whoever waits for it could not give up. Two tokens do no harm.
	token, lifetime, err := s.exchange(ctx)
	if err != nil {
		return "", false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.until = token, time.Now().Add(lifetime-ibmRefresh)
	return token, true, nil
}

func (s *ibm) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
}

// exchange gets a token for the key, and how long it is good for.
func (s *ibm) exchange(ctx context.Context) (string, time.Duration, error) {
	form := url.Values{"grant_type": {"urn:ibm:params:oauth:grant-type:apikey"}, "apikey": {s.key}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.iam, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, &logpush.UploadError{Text: "the request for a token cannot be made", Permanent: true}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	answer, _, err := do(s.client, request, answerMax)
	if e, ok := errors.AsType[*logpush.UploadError](err); ok {
		e.Text = "no token for " + paramIBMKey + ": " + e.Text
		if e.Permanent {
			e.Status = http.StatusUnauthorized // IAM says 400 of a bad key; with the batch nothing is wrong
		}
	}
	if err != nil {
		return "", 0, err
	}
	var granted struct {
		Token   string `json:"access_token"`
		Seconds int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(answer, &granted); err != nil || granted.Token == "" {
		return "", 0, &logpush.UploadError{Text: "no token for " + paramIBMKey + ": IBM's answer holds none"}
	}
	return granted.Token, time.Duration(min(max(granted.Seconds, 0), ibmSecondsMax)) * time.Second, nil
}
