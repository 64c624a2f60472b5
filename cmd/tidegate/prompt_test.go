package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
)

const firstID, secondID = "1a2b3c4d-0000-4000-8000-000000000001", "5e6f7a8b-0000-4000-8000-000000000002"

var (
	testVersions = []deploy.Version{
		{ID: secondID, Annotations: deploy.Annotations{Tag: "v2", Message: "Try\x1b[31m this"}},
		{ID: firstID, Annotations: deploy.Annotations{Tag: "v1"}},
	}
	testDeployments = []deploy.Deployment{{Versions: []deploy.Split{{VersionID: firstID, Percentage: deploy.Full}}}}
)

// person answers the questions line by line, as a screen reader's user does. One
// byte a read leaves the lines that a question does not take to the next one.
func person(lines ...string) (prompt, *bytes.Buffer) {
	var asked bytes.Buffer
	in := iotest.OneByteReader(strings.NewReader(strings.Join(lines, "\n") + "\n"))
	return prompt{in: in, out: &asked, plain: true}, &asked
}

func TestPersonDividesTraffic(t *testing.T) {
	p, asked := person(
		"1", "0", // v2 as well; v1 serves and is chosen beforehand
		"300", "12.5", // v2, at the second attempt
		"", // v1 takes the rest
		"Go",
	)
	var message string
	got, err := p.splits(t.Context(), "shop", testVersions, testDeployments, &message)
	want := []deploy.Split{{VersionID: secondID, Percentage: 12_500}, {VersionID: firstID, Percentage: 87_500}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || message != "Go" {
		t.Errorf("%v, message %q, (-want +got)\n%s\nasked:\n%s", err, message, diff, asked)
	}
	for _, words := range []string{"(serves 100%)", "Percentage of v2 (5e6f7a8b)", "not a percentage from 0 to 100"} {
		if !strings.Contains(asked.String(), words) {
			t.Errorf("%q was not shown:\n%s", words, asked)
		}
	}
	if strings.Contains(asked.String(), "\x1b[31m") {
		t.Errorf("a version's message reached the terminal as a command:\n%q", asked)
	}
}

// One version takes all traffic, and a message from the command line is kept, so
// neither is asked for.
func TestPersonIsNotAskedWhatIsKnown(t *testing.T) {
	p, asked := person("0")
	message := "given"
	got, err := p.splits(t.Context(), "shop", testVersions, testDeployments, &message)
	if diff := cmp.Diff(testDeployments[0].Versions, got); diff != "" || err != nil || message != "given" {
		t.Errorf("%v, message %q, (-want +got)\n%s\nasked:\n%s", err, message, diff, asked)
	}
}

func TestPersonChoosesNothing(t *testing.T) {
	p, _ := person("2", "0")
	var message string
	if got, err := p.splits(t.Context(), "shop", testVersions, testDeployments, &message); err == nil {
		t.Errorf("got %v, want an error", got)
	}
	if got, err := p.splits(t.Context(), "shop", nil, nil, &message); !errors.Is(err, errNoVersion) {
		t.Errorf("without versions: got %v, %v", got, err)
	}
}

func TestPersonConfirms(t *testing.T) {
	f := func(answer string, want error) {
		t.Helper()
		p, _ := person(answer)
		if err := p.confirm(t.Context(), "Deploy?"); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", answer, err, want)
		}
	}
	f("y", nil)
	f("n", errDeclined)
	f("", errDeclined)
}
