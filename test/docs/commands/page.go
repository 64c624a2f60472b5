// Package commands finds in pages what they tell their readers to run.
package commands

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// Command is a program with its arguments, without what is the shell's: quotes, comments, redirections,
// and variables set before it. What a shell would put in place of $name and $(...) stands as it is.
type Command struct {
	Line   int  // of the page
	Inline bool // in a sentence, which may do no more than name it
	Words  []string
}

// Program is what is run, without the folder in which pages have our binaries.
func (c Command) Program() string {
	folder, name := path.Split(c.Words[0])
	if slices.Contains([]string{"bin/", "./bin/", "/usr/local/bin/"}, folder) {
		return name
	}
	return c.Words[0]
}

// Block is what stands between two fences.
type Block struct {
	Line int    // of the page, of its first line
	Mark string // such as sh
	Text string
}

// shells are the marks of blocks with commands. Those without one are examples.
var shells = []string{"", "sh", "bash", "console"}

var span = regexp.MustCompile("`([^`]+)`")

// In finds the commands of a page: those of its blocks, and those in sentences.
func In(page string) []Command {
	blocks, rest := split(page)
	var found []Command
	for _, b := range blocks {
		if slices.Contains(shells, b.Mark) {
			found = append(found, parse(typed(b.Text), b.Line)...)
		}
	}
	line := 1
	for paragraph := range strings.SplitAfterSeq(rest, "\n\n") { // a backquote without another one spoils no more than its own
		for _, at := range span.FindAllStringSubmatchIndex(paragraph, -1) {
			text := strings.ReplaceAll(paragraph[at[2]:at[3]], `\|`, "|") // as tables have it
			for _, c := range parse(strings.ReplaceAll(text, "\n", " "), line+strings.Count(paragraph[:at[0]], "\n")) {
				c.Inline = true
				found = append(found, c)
			}
		}
		line += strings.Count(paragraph, "\n")
	}
	return found
}

// Blocks are those of a page.
func Blocks(page string) []Block {
	blocks, _ := split(page)
	return blocks
}

// split divides a page into its blocks and what is left, in which their lines are empty.
func split(page string) (blocks []Block, rest string) {
	var b *Block
	var outside strings.Builder
	number := 0
	for line := range strings.Lines(page) {
		number++
		mark, fence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case fence && b == nil:
			b = &Block{Line: number + 1, Mark: strings.TrimSpace(mark)}
		case fence:
			blocks, b = append(blocks, *b), nil
		case b != nil:
			b.Text += line
		default:
			outside.WriteString(line)
			continue
		}
		outside.WriteString("\n")
	}
	return blocks, outside.String()
}

// typed leaves of a block with prompts what is behind them: all else are answers.
func typed(block string) string {
	if !strings.HasPrefix(block, "$ ") && !strings.Contains(block, "\n$ ") {
		return block
	}
	var b strings.Builder
	for line := range strings.Lines(block) {
		command, is := strings.CutPrefix(line, "$ ")
		if !is {
			command = "\n"
		}
		b.WriteString(command)
	}
	return b.String()
}
