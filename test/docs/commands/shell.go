package commands

import (
	"regexp"
	"slices"
	"strings"
)

// parser reads a script as a shell does, as far as it takes to see which programs it runs.
type parser struct {
	text      string
	at        int
	line      int
	documents []string // ends of those that begin behind this line
	found     []Command
}

// parse finds the commands of a script, also those within $(...) and those that other programs run.
func parse(script string, line int) []Command {
	p := parser{text: script, line: line}
	for p.at < len(p.text) { // a ) too many ends no script
		p.list(0)
	}
	return p.found
}

// list reads commands up to the character that ends them.
func (p *parser) list(end byte) {
	var words []string
	line := p.line
	run := func() {
		p.run(words, line)
		words = nil
	}
	defer func() { run() }()
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == end:
			p.at++
			return
		case c == ' ' || c == '\t':
			p.at++
		case strings.HasPrefix(p.text[p.at:], "\\\n"):
			p.at += 2
			p.line++
		case c == '\n':
			p.at++
			p.line++
			p.skipDocuments()
			run()
		case c == '(':
			p.at++
			run()
			p.list(')')
		case strings.IndexByte(";&|)", c) >= 0:
			p.at++
			run()
		case c == '<' || c == '>':
			if strings.HasPrefix(p.text[p.at+1:], "(") { // a command in place of a file
				p.at += 2
				p.list(')')
				words = append(words, "<(...)")
				continue
			}
			p.redirection()
		case c == '#':
			p.to('\n')
		default:
			if len(words) == 0 {
				line = p.line
			}
			word := p.word()
			if p.at < len(p.text) && strings.IndexByte("<>", p.text[p.at]) >= 0 && strings.Trim(word, "0123456789") == "" {
				continue // 2>...
			}
			words = append(words, word)
		}
	}
}

// to goes on to the next c.
func (p *parser) to(c byte) {
	n := strings.IndexByte(p.text[p.at:], c)
	if n < 0 {
		n = len(p.text) - p.at
	}
	p.line += strings.Count(p.text[p.at:p.at+n], "\n")
	p.at += n
}

// redirection leaves out where something is read from or written to.
func (p *parser) redirection() {
	begin := p.at
	for p.at < len(p.text) && strings.IndexByte("<>&-", p.text[p.at]) >= 0 {
		p.at++
	}
	operator := p.text[begin:p.at]
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
	target := p.word()
	if operator == "<<" || operator == "<<-" {
		p.documents = append(p.documents, target)
	}
}

// skipDocuments leaves out the text between << END and END.
func (p *parser) skipDocuments() {
	for _, end := range p.documents {
		for p.at < len(p.text) {
			begin := p.at
			p.to('\n')
			done := strings.TrimSpace(p.text[begin:p.at]) == end
			if p.at < len(p.text) {
				p.at++
				p.line++
			}
			if done {
				break
			}
		}
	}
	p.documents = nil
}

// word reads one, without its quotes.
func (p *parser) word() string {
	var b strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		closes := strings.IndexByte(p.text[p.at+1:], '\'')
		switch {
		case strings.IndexByte(" \t\n;&|()<>", c) >= 0:
			return b.String()
		case c == '\'' && closes >= 0: // else it is an apostrophe
			p.at++
			b.WriteString(p.text[p.at : p.at+closes])
			p.to('\'')
			p.at++
		case c == '"':
			p.at++
			for p.at < len(p.text) && p.text[p.at] != '"' {
				p.character(&b)
			}
			p.at = min(p.at+1, len(p.text))
		default:
			p.character(&b)
		}
	}
	return b.String()
}

// character reads one that may stand between double quotes, or what a shell puts something else in place of.
func (p *parser) character(b *strings.Builder) {
	begin := p.at
	switch rest := p.text[p.at:]; {
	case strings.HasPrefix(rest, "\\\n"):
		p.at += 2
		p.line++
		return
	case rest[0] == '\\' && len(rest) > 1:
		p.at += 2
		begin++
	case strings.HasPrefix(rest, "$("):
		p.at += 2
		p.list(')')
	default:
		if rest[0] == '\n' {
			p.line++
		}
		p.at++
	}
	b.WriteString(p.text[begin:p.at])
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// reserved words, and programs that run what follows, have a command behind them.
var reserved = []string{"!", "{", "if", "then", "elif", "else", "while", "until", "do", "time", "exec", "nohup", "setsid"}

// runners run a command that follows their flags. The flags here have a value behind them.
var runners = map[string][]string{
	"env": {"-u"}, "nice": {"-n"}, "sudo": {"-u", "-g"}, "runuser": {"-u"}, "watch": {"-n"}, "xargs": {"-n", "-P", "-I"},
	"systemd-run": {"-p", "--property", "-u", "--unit", "-E", "--setenv"},
}

// run notes the command that words are in the end.
func (p *parser) run(words []string, line int) {
	for len(words) > 0 {
		values, runs := runners[words[0]]
		switch {
		case slices.Contains(reserved, words[0]) || assignment.MatchString(words[0]):
			words = words[1:]
		case runs:
			words = operands(words[1:], values...)
		case words[0] == "sh" && len(words) > 2 && words[1] == "-c":
			p.found = append(p.found, parse(words[2], line)...)
			return
		case words[0] == "kubectl" && slices.Contains(words, "--"):
			words = words[slices.Index(words, "--")+1:]
		case words[0] == "docker" && slices.Contains(words, "compose") && (slices.Contains(words, "exec") || slices.Contains(words, "run")):
			verb := slices.IndexFunc(words, func(w string) bool { return w == "exec" || w == "run" })
			if words = operands(words[verb+1:], "-e", "--env", "-u", "--user", "-w", "--workdir"); len(words) > 0 {
				words = words[1:] // the service
			}
		default:
			p.found = append(p.found, Command{Line: line, Words: words})
			return
		}
	}
}

// operands are what follows flags, of which some have a value behind them.
func operands(words []string, values ...string) []string {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		n := 1
		if slices.Contains(values, words[0]) {
			n = min(2, len(words))
		}
		words = words[n:]
	}
	return words
}
