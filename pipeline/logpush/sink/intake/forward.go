package intake

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"tidegate/pipeline/logpush"
)

// forward posts the gzip file of an object as it is.
type forward struct{ *endpoint }

func openForward(e *endpoint, _ params, _ Options) (logpush.Sink, error) { return forward{e}, nil }

// Put implements logpush.Sink.
func (s forward) Put(ctx context.Context, o logpush.Object) error {
	_, err := s.post(ctx, &o, inGzip(o.ContentType, o.Body))
	return err
}

// Sumo Logic: the path is the credential.
var sumoRules = rules{paths: []string{"/receiver/v1/http/*"}}

// SentinelOne's intake speaks like Splunk's.
var sentineloneRules = rules{
	path:     pathRaw,
	paths:    []string{pathRaw},
	required: []string{"header_Authorization"},
	sent:     []string{"sourcetype", "channel", "host", "index", "source"},
}

// Splunk takes lines at its raw endpoint; the one for events wants another shape.
var splunkRules = rules{
	path:     pathRaw,
	paths:    []string{pathRaw},
	required: []string{"channel", "sourcetype", "header_Authorization"},
	sent:     []string{"channel", "sourcetype", "host", "index", "source"},
	taken:    []string{paramSkipVerify},
}

const (
	pathRaw         = "/services/collector/raw"
	paramSkipVerify = "insecure-skip-verify"
)

func openSplunk(e *endpoint, p params, o Options) (logpush.Sink, error) {
	if uuid.Validate(p["channel"]) != nil {
		return nil, errors.New("the parameter channel must be a GUID, such as 0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11")
	}
	if !strings.HasPrefix(e.header.Get("Authorization"), "Splunk ") {
		return nil, errors.New("header_Authorization must be Splunk%20<token>")
	}
	skip, err := p.flag(paramSkipVerify)
	if err != nil {
		return nil, err
	}
	if skip { // a self-signed certificate, which its owner knows
		o.Egress.SkipVerify = true
		e.client = o.Egress.Client()
	}
	return forward{e}, nil
}
