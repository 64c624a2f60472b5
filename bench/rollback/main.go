// Command rollback plays thousands of deployments to automatic rollback as it ships, to
// the checks of Flagger and Argo Rollouts with the values of their documentation, and to
// a z-test that is looked at again and again. It prints how often good versions are rolled back, how
// soon bad ones are, how many requests fail until then, and the least that any test needs.
//
// Traffic is drawn second by second, not request by request, and from fixed seeds: the same
// flags print the same figures. docs/rollback.md says how to read them. It fails if good
// versions whose failures are independent are rolled back more often, in any scenario or in all
// together, than a kept promise allows by chance.
//
//	make bench-rollback
//	go run ./bench/rollback -rounds 4000
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	rounds := flag.Int("rounds", 200, "deployments of each scenario")
	seed := flag.Int("seed", 1, "of the random numbers")
	doc := flag.String("doc", "", "a page whose text between the two marks is replaced by the tables, too")
	flag.Parse()
	if err := run(os.Stdout, *rounds, looks, *seed, *doc); err != nil {
		fmt.Fprintln(os.Stderr, "bench/rollback:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	to                  io.Writer
	rounds, looks, seed int
	ours                func(level float64) maker // max_failure_ratio: 1
	targets             []string
	broken              []breach
}

// breach is a promise that is not kept.
type breach struct {
	level float64
	what  string
}

func (b *bench) target(what string, met bool) {
	verdict := "met"
	if !met {
		verdict = "**missed**"
	}
	b.targets = append(b.targets, "- "+verdict+": "+what)
}

func run(out io.Writer, rounds, looks, seed int, doc string) error {
	if rounds < 1 {
		return fmt.Errorf("-rounds: %d is no number of deployments", rounds)
	}
	var page bytes.Buffer
	b := &bench{to: io.MultiWriter(out, &page), rounds: rounds, looks: looks, seed: seed, ours: byRequests}
	b.falseRollbacks()
	b.correlatedFailures()
	b.detection()
	b.efficiency()
	b.otherLimits()
	fmt.Fprint(b.to, "\n### Targets\n\n")
	for _, line := range b.targets {
		fmt.Fprintln(b.to, line)
	}
	if doc != "" {
		if err := replace(doc, page.Bytes()); err != nil {
			return err
		}
	}
	return b.verdict()
}

// verdict is an error if a promise is broken.
func (b *bench) verdict() error {
	if len(b.broken) == 0 {
		return nil
	}
	var all strings.Builder
	for _, one := range b.broken {
		fmt.Fprintf(&all, "\n%s", one.what)
	}
	return fmt.Errorf("good versions are rolled back more often than is promised:%s", all.String())
}

// The marks between which a page holds what this program prints.
const (
	markBegin = "<!-- go run ./bench/rollback -doc: begin -->\n"
	markEnd   = "<!-- go run ./bench/rollback -doc: end -->\n"
)

func replace(name string, tables []byte) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(page, []byte(markBegin))
	_, after, ends := bytes.Cut(rest, []byte(markEnd))
	if !begins || !ends {
		return fmt.Errorf("%s has not the marks %q and %q", name, markBegin, markEnd)
	}
	text := bytes.Join([][]byte{before, []byte(markBegin), tables, []byte(markEnd), after}, nil)
	return os.WriteFile(name, text, 0o644)
}
