package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// compareBuilds measures this build beside another one, and nginx if it is there. On a
// machine that does other work only what takes turns in one run can be compared.
func compareBuilds(ctx context.Context, o options, dir string) error {
	e := &everybody{}
	defer e.stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	start := func(name, program, role string, args ...string) (*peer, error) {
		c, err := startRole(ctx, program, role, args...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		e.children = append(e.children, c)
		return &peer{name: name, process: c}, nil
	}
	var neighbours [3]*peer
	for i, role := range []string{"upstream", "upstream", "broker"} {
		if neighbours[i], err = start(role, self, role, dir); err != nil {
			return err
		}
	}
	e.neighbours = slices.Clone(e.children)
	first, second, broker := neighbours[0].process.addr, neighbours[1].process.addr, neighbours[2].process.addr
	var pairs [2][2]*peer // traced and not, of each build
	for i, program := range []string{o.before, self} {
		build := []string{"before", "now"}[i]
		for j, args := range [][]string{{"-kafka=" + broker}, nil} {
			if i == 1 && j == 0 && o.profile != "" {
				args = append(args, "-cpuprofile="+o.profile)
			}
			name := build + ", " + []string{"trace events to Kafka", "no trace events"}[j]
			folder := filepath.Join(dir, fmt.Sprint(build, j))
			if pairs[i][j], err = start(name, program, "gateway", append(args, folder, first, second)...); err != nil {
				return err
			}
		}
	}
	peers := []*peer{pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]}
	if program, lookErr := exec.LookPath("nginx"); lookErr == nil {
		c, _, err := startNginx(ctx, program, dir, first, second)
		if err != nil {
			return err
		}
		e.children = append(e.children, c)
		peers = append(peers, &peer{name: "nginx, JSON access log", process: c})
	}
	if err := measure(ctx, o, peers, e.neighbours); err != nil {
		return err
	}
	printMedians(peers)
	fmt.Printf("CPU of a request, now / before, median of rounds: traced %.2f, untraced %.2f\n", cpuRatio(pairs[1][0], pairs[0][0]), cpuRatio(pairs[1][1], pairs[0][1]))
	for i, build := range []string{"before", "now"} {
		fmt.Printf("traced / untraced, %s: %.2f", build, pairs[i][0].rate()/pairs[i][1].rate())
		if len(peers) > 4 {
			fmt.Printf("; traced / nginx: %.2f, by CPU %.2f", pairs[i][0].rate()/peers[4].rate(), peers[4].cpu()/pairs[i][0].cpu())
		}
		fmt.Println()
	}
	return nil
}

// cpuRatio returns the median of the rounds' ratios.
func cpuRatio(a, b *peer) float64 {
	var list []float64
	for i := range a.results {
		list = append(list, float64(a.results[i].CPU)/float64(b.results[i].CPU))
	}
	return middle(list)
}
