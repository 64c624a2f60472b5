package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

// pages are the documents of the repository, by their paths from its root.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	anchor    = regexp.MustCompile(`<a id="([^"]+)"`)
	inTitle   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	notInSlug = regexp.MustCompile(`[^\pL\pN_ -]`)
)

// anchors are what a link to a page may have behind its #, as GitHub makes them.
func anchors(text string) []string {
	text = codeBlock.ReplaceAllString(text, "")
	seen := map[string]int{}
	var list []string
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		title := inTitle.ReplaceAllString(match[1], "$1")
		slug := strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-")
		if n := seen[slug]; n > 0 {
			list = append(list, slug+"-"+string(rune('0'+n)))
		} else {
			list = append(list, slug)
		}
		seen[slug]++
	}
	for _, match := range anchor.FindAllStringSubmatch(text, -1) {
		list = append(list, match[1])
	}
	return list
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	links, known := 0, map[string][]string{}
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(read(t, page), ""), -1) {
			target, fragment, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, ":") {
				continue // another server's
			}
			links++
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			info, err := os.Stat(filepath.Join(root, path))
			if err != nil {
				t.Errorf("%s: %s: %v", page, match[1], err)
				continue
			}
			if info.IsDir() && fragment != "" {
				path = filepath.Join(path, "README.md")
			}
			if fragment == "" {
				continue
			}
			if known[path] == nil {
				known[path] = anchors(read(t, path))
			}
			if !slices.Contains(known[path], fragment) {
				t.Errorf("%s: %s: the page has no such heading", page, match[1])
			}
		}
	}
	if links < 500 {
		t.Errorf("only %d links were found", links)
	}
}
