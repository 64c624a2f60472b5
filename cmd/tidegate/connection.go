package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/api/client"
	"tidegate/internal/app"
	"tidegate/internal/certs"
	"tidegate/internal/errs"
)

const (
	defaultAPI = "http://127.0.0.1:8787"
	// callTimeout bounds one call. The slowest sends dead letters again: it begins with them
	// for 30 s, and each may take 75 s.
	callTimeout = 2 * time.Minute
	// answerBytesMax is far above a list of the 100 deployable versions.
	answerBytesMax = 64 << 20
)

// connection says how to reach the API: the flags that every client command has.
type connection struct {
	flags     *pflag.FlagSet
	api       string
	caFile    string
	account   string
	tokenFile string
	dataDir   string
	json      bool
}

func newConnection() *connection {
	c := &connection{flags: pflag.NewFlagSet("connection", pflag.ContinueOnError)}
	c.flags.StringVar(&c.api, "api", "", "address of the API (default: that of the platform in --data-dir, else "+defaultAPI+")")
	c.flags.StringVar(&c.caFile, "api-ca-file", "", "PEM file of the authorities that sign the API's certificate (default: the system's)")
	c.flags.StringVar(&c.account, "account", "", "account id (default: that of the platform in --data-dir, else the only one that the token opens)")
	c.flags.StringVar(&c.tokenFile, "token-file", "", "file with the API token; the variable TIDEGATE_TOKEN holds a token itself")
	c.flags.StringVar(&c.dataDir, "data-dir", "./data", "folder of a running \"tidegate up\"; its ready.json says where the API is")
	c.flags.BoolVar(&c.json, "json", false, "print the API's result as JSON")
	return c
}

// session is one command's use of the API.
type session struct {
	api     *client.Client
	streams *client.Client // for calls that last; the command's context ends them
	http    *http.Client   // of streams
	account string

	address     string // of the API, for messages
	tokenSource string // where the token came from, for messages
	answers     *recorder
	json        bool
	out         io.Writer
	bold        bool // standard output shows colours
}

// open settles the address, the token and the account. What the command line and
// the environment leave open comes from the ready file of a platform that runs in
// the data folder, so that right after its start no flag is needed.
func (c *connection) open(cmd *cobra.Command) (*session, error) {
	s, err := c.openAny(cmd)
	if err == nil && s.account == "" {
		s.account, err = s.onlyAccount(cmd.Context())
	}
	return s, err
}

// openAny is open for commands that are about no account.
func (c *connection) openAny(cmd *cobra.Command) (*session, error) {
	tokenFileGiven := c.flags.Changed("token-file")
	if err := app.FromEnvironment(c.flags); err != nil {
		return nil, usage(cmd, err)
	}
	ready, err := readReady(c.dataDir)
	if err != nil {
		return nil, err
	}
	address := strings.TrimRight(cmp.Or(c.api, ready.API, defaultAPI), "/")
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage(cmd, fmt.Errorf("--api is %q: it must be an http:// or https:// URL", address))
	}
	if ready.API != address {
		ready = app.Ready{} // another platform's token must not be sent there
	}
	token, source, err := c.token(tokenFileGiven, ready)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, fmt.Errorf("no API token for %s: no platform is running in --data-dir %s that serves there; start one "+
			"with \"tidegate up\", or name a file that holds a token with --token-file, or set TIDEGATE_TOKEN", address, c.dataDir)
	}
	s := &session{
		account: cmp.Or(c.account, ready.AccountID), address: address, tokenSource: source, answers: &recorder{},
		json: c.json, out: cmd.OutOrStdout(), bold: colourful(cmd.OutOrStdout()),
	}
	tls := certs.Client{Peer: "the API", CAFile: c.caFile}
	if err := tls.Check(); err != nil {
		return nil, err
	}
	s.answers.next = tls.Transport()
	s.api = client.New(address, token, &http.Client{Transport: s.answers, Timeout: callTimeout})
	s.http = &http.Client{Transport: s.answers.next}
	s.streams = client.New(address, token, s.http)
	return s, nil
}

// readReady returns the zero value where no platform runs.
func readReady(dataDir string) (app.Ready, error) {
	var ready app.Ready
	path := filepath.Join(dataDir, "ready.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ready, nil
	}
	if err != nil {
		return ready, fmt.Errorf("find the running platform: %w", err)
	}
	if err := json.Unmarshal(text, &ready); err != nil {
		return ready, fmt.Errorf("find the running platform: %s is not what \"tidegate up\" writes: %w", path, err)
	}
	return ready, nil
}

// token has no flag of its own: a command line is visible to every user of the
// machine. The order is flag, TIDEGATE_TOKEN, TIDEGATE_TOKEN_FILE, ready file.
func (c *connection) token(fileGiven bool, ready app.Ready) (token, source string, err error) {
	const variable = "TIDEGATE_TOKEN"
	if value := strings.TrimSpace(os.Getenv(variable)); value != "" && !fileGiven {
		return value, variable, checkToken(value, variable)
	}
	path := cmp.Or(c.tokenFile, ready.TokenFile)
	if path == "" {
		return "", "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("read the API token: %w", err)
	}
	token = strings.TrimSpace(string(text))
	return token, path, checkToken(token, path)
}

// checkToken refuses what no header can carry, of which the server would be blamed. Of another
// file than the token's it shows nothing.
func checkToken(token, source string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Errorf("%s holds no token: a token is one word", source)
	}
	return nil
}

func (s *session) onlyAccount(ctx context.Context) (string, error) {
	list, err := s.api.Accounts(ctx)
	if err != nil {
		return "", s.explain("look up the account", err)
	}
	if len(list) == 1 {
		return list[0].ID, nil
	}
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = fmt.Sprintf("%s (%s)", a.ID, oneLine(a.Name))
	}
	return "", fmt.Errorf("the token opens %d accounts: name one with --account: %s", len(list), strings.Join(names, ", "))
}

// explain says what was attempted, why it failed in the API's words, and what to
// do about it where the API cannot know.
func (s *session) explain(attempted string, err error) error {
	failure, ok := errors.AsType[*errs.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted", attempted)
	case !ok:
		return fmt.Errorf("%s: %w", attempted, err)
	case failure.Kind == errs.Unavailable && failure.Code == 0: // no envelope: nobody answered
		return fmt.Errorf("%s: the API at %s does not answer: start it with \"tidegate up\", or name another with --api (%w)", attempted, s.address, failure)
	case failure.Code == 0: // somebody else did
		return fmt.Errorf("%s: %w; name the address of the API with --api", attempted, failure)
	case failure.Kind == errs.Unauthorized:
		return fmt.Errorf("%s: the API at %s refuses the token from %s: %w; \"tidegate token create\" makes another", attempted, s.address, s.tokenSource, failure)
	default:
		return fmt.Errorf("%s: %w", attempted, failure)
	}
}

// recorder keeps the result of the last successful answer, so that --json shows
// what the API said, not what this client understood of it. A command makes one
// call at a time.
type recorder struct {
	next   http.RoundTripper
	result json.RawMessage
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, answerBytesMax))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var envelope struct {
		Success bool
		Result  json.RawMessage
	}
	if json.Unmarshal(body, &envelope) == nil && envelope.Success {
		r.result = envelope.Result
	}
	return res, nil // what else is wrong with the body, the client says
}

// colourful reports whether w is a terminal whose user wants colours
// (https://no-color.org).
func colourful(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminal(w)
}

// terminal reports whether a standard stream is one.
func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}
