package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The repository keeps of a corpus only what its seeds do not do already. An input is worth its place if it reaches a
// statement that neither a seed nor a kept input reaches; of all found, a greedy cover takes the fewest, small ones
// first. So a target keeps no more inputs than it has statements, and in practice a handful.

// keptBytesMax is the size of the largest input that is kept.
const keptBytesMax = 4 << 10

// keep copies such inputs of the corpus to testdata/fuzz, and returns how many.
func keep(ctx context.Context, b *binaries, t target, corpus string) (kept int, err error) {
	found, err := inputs(corpus)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	binary, err := b.of(ctx, t.dir, forCoverage)
	if err != nil {
		return 0, err
	}
	reached, err := coverage(ctx, binary, t, "")
	if err != nil {
		return 0, err
	}
	folder := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	fresh := map[string]map[string]bool{} // by the name of an input, what it reaches beyond the seeds
	for _, in := range found {
		if _, err := os.Stat(filepath.Join(folder, in.name)); err == nil {
			continue // a seed already
		}
		blocks, err := coverageOf(ctx, binary, t, folder, in)
		if err != nil {
			return 0, err
		}
		for block := range reached {
			delete(blocks, block)
		}
		if len(blocks) > 0 {
			fresh[in.name] = blocks
		}
	}
	for _, in := range cover(found, fresh) {
		if err := in.copyTo(folder); err != nil {
			return kept, err
		}
		kept++
	}
	return kept, nil
}

// cover picks, again and again, the input that adds most, of equals the first.
func cover(found []input, fresh map[string]map[string]bool) (picked []input) {
	covered := map[string]bool{}
	for {
		best, most := input{}, 0
		for _, in := range found {
			adds := 0
			for block := range fresh[in.name] {
				if !covered[block] {
					adds++
				}
			}
			if adds > most {
				best, most = in, adds
			}
		}
		if most == 0 {
			return picked
		}
		picked = append(picked, best)
		for block := range fresh[best.name] {
			covered[block] = true
		}
	}
}

// input is a file of a corpus.
type input struct {
	name string
	size int64
	path string
}

// inputs lists those of a folder that may be kept, the smallest first.
func inputs(folder string) ([]input, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []input
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Size() <= keptBytesMax {
			all = append(all, input{e.Name(), info.Size(), filepath.Join(folder, e.Name())})
		}
	}
	slices.SortFunc(all, func(a, b input) int { return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.name, b.name)) })
	return all, nil
}

func (in input) copyTo(folder string) error {
	text, err := os.ReadFile(in.path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { // #nosec G301 -- sources
		return err
	}
	return os.WriteFile(filepath.Join(folder, in.name), text, 0o644) // #nosec G306 -- a source
}

// coverageOf runs one input, which is a seed meanwhile: tests run nothing else by name.
func coverageOf(ctx context.Context, binary string, t target, folder string, in input) (_ map[string]bool, err error) {
	if err := in.copyTo(folder); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(filepath.Join(folder, in.name))) }()
	return coverage(ctx, binary, t, "/^"+in.name+"$")
}

// coverage returns the blocks of statements that the target's seeds reach, or the one that is named.
func coverage(ctx context.Context, binary string, t target, seed string) (map[string]bool, error) {
	profile := binary + "." + t.name + ".out"
	defer func() { _ = os.Remove(profile) }()                                                             // not there if the run failed
	cmd := exec.CommandContext(ctx, binary, "-test.run=^"+t.name+"$"+seed, "-test.coverprofile="+profile) // #nosec G204 -- compiled by us
	cmd.Dir = t.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run the seeds: %w\n%s", err, tail(string(out), 20))
	}
	text, err := os.ReadFile(profile) // #nosec G304 -- named above
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a package without statements
	}
	if err != nil {
		return nil, err
	}
	blocks := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // file:from,to statements count
		if len(fields) == 3 && fields[2] != "0" {
			blocks[fields[0]] = true
		}
	}
	return blocks, nil
}
