package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// APIError is an answer of the API that is not a success.
type APIError struct {
	Status  int
	Code    int
	Message string
}

func (e *APIError) Error() string {
	return fmt.Sprintf("HTTP %d, code %d: %s", e.Status, e.Code, e.Message)
}

// API calls path below /client/v4 and decodes the result into out, unless it is
// nil. "{account}" in path stands for the account's id. A body of type string is
// sent as it is, anything else as JSON.
func (p *Platform) API(ctx context.Context, method, path string, body, out any) error {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(encoded)
	}
	return p.send(ctx, method, path, "application/json", reader, out)
}

func (p *Platform) send(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	path = strings.ReplaceAll(path, "{account}", p.AccountID)
	req, err := http.NewRequestWithContext(ctx, method, p.Ready.API+"/client/v4"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	var envelope struct {
		Success bool
		Errors  []struct {
			Code    int
			Message string
		}
		Result json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: HTTP %d without an envelope: %w", method, path, res.StatusCode, err)
	}
	if !envelope.Success {
		e := &APIError{Status: res.StatusCode}
		if len(envelope.Errors) > 0 {
			e.Code, e.Message = envelope.Errors[0].Code, envelope.Errors[0].Message
		}
		return fmt.Errorf("%s %s: %w", method, path, e)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(envelope.Result, out)
}

// UploadOrigin makes an origin version and returns its id.
func (p *Platform) UploadOrigin(ctx context.Context, script, origin, tag, message string) (string, error) {
	var version struct{ ID string }
	body := map[string]any{"metadata": map[string]any{
		"origin":      map[string]string{"url": origin},
		"annotations": map[string]string{"workers/tag": tag, "workers/message": message},
	}}
	err := p.API(ctx, http.MethodPost, "/accounts/{account}/workers/scripts/"+script+"/versions", body, &version)
	return version.ID, err
}

// Deploy makes a deployment of the splits and returns its id.
func (p *Platform) Deploy(ctx context.Context, script string, splits ...deploy.Split) (string, error) {
	var d struct{ ID string }
	body := map[string]any{"strategy": "percentage", "versions": splits}
	err := p.API(ctx, http.MethodPost, "/accounts/{account}/workers/scripts/"+script+"/deployments", body, &d)
	return d.ID, err
}

// ServeOrigin deploys an origin as a script, and waits until the gateway serves it.
func (p *Platform) ServeOrigin(ctx context.Context, script, origin string) error {
	id, err := p.UploadOrigin(ctx, script, origin, "v1", "")
	if err != nil {
		return err
	}
	if _, err := p.Deploy(ctx, script, deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return Poll(ctx, func() (bool, error) {
		status, _, err := p.Visit(ctx, http.DefaultClient, script, nil)
		return err == nil && status == http.StatusOK, err
	})
}

// Deployments returns the script's deployments, newest first.
func (p *Platform) Deployments(ctx context.Context, script string) ([]deploy.Deployment, error) {
	var result struct{ Deployments []deploy.Deployment }
	err := p.API(ctx, http.MethodGet, "/accounts/{account}/workers/scripts/"+script+"/deployments", nil, &result)
	return result.Deployments, err
}

// Host is the script's host name at the gateway.
func (p *Platform) Host(script string) string { return script + ".dev.localhost" }

// Address is where script answers to a browser on this machine.
func (p *Platform) Address(script string) string {
	return strings.Replace(p.Gateway, "127.0.0.1", p.Host(script), 1)
}

// Visit sends one GET to script through the gateway and returns the status and
// the body of the answer.
func (p *Platform) Visit(ctx context.Context, client *http.Client, script string, header http.Header) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Gateway+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = p.Host(script)
	if header != nil {
		req.Header = header
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// Query runs a statement over ClickHouse's HTTP interface and returns the text
// of the answer.
func (p *Platform) Query(ctx context.Context, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	target := p.ClickHouse + "/?database=tidegate&query=" + url.QueryEscape(statement)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("query %q: HTTP %d: %s", statement, res.StatusCode, body)
	}
	return strings.TrimSpace(string(body)), nil
}

// Count runs a statement that answers one whole number.
func (p *Platform) Count(ctx context.Context, statement string) (int64, error) {
	s, err := p.Query(ctx, statement)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(s, 10, 64)
}

// Counts are the events in each place that must agree.
type Counts struct {
	Kafka, Rows, Seconds, Minutes, Hours int64
}

// Agree reports whether all five are equal.
func (c Counts) Agree() bool {
	return c.Kafka == c.Rows && c.Rows == c.Seconds && c.Seconds == c.Minutes && c.Minutes == c.Hours
}

func (c Counts) String() string {
	return fmt.Sprintf("kafka %d, trace_events %d, version_rates_1s %d, _1m %d, _1h %d", c.Kafka, c.Rows, c.Seconds, c.Minutes, c.Hours)
}

// Counts reads every place once; while events are under way they may differ.
func (p *Platform) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	kafka, err := TopicRecords(ctx, p.Kafka, schema.Topic)
	if err != nil {
		return c, err
	}
	c.Kafka = kafka
	for statement, target := range map[string]*int64{
		"SELECT count() FROM trace_events":           &c.Rows,
		"SELECT sum(requests) FROM version_rates_1s": &c.Seconds,
		"SELECT sum(requests) FROM version_rates_1m": &c.Minutes,
		"SELECT sum(requests) FROM version_rates_1h": &c.Hours,
	} {
		if *target, err = p.Count(ctx, statement); err != nil {
			return c, err
		}
	}
	return c, nil
}
