package embedded

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// What a text is made of where the two lexers could part: quotes, comments, numbers, and what they look like.
var lexemes = []string{
	"SELECT", "x", "a1", "e", "_", "x'", "b'", "X'4f'", "b'01'", "'", "''", `"`, "`", `\`, "‘", "’", "“", "”", "$", "$$", "$a$", "$1$", "a$b$",
	"--", "->", "-", "//", "/", "/*", "*/", "*", "#", "# ", "#!", "!", "\n", "\r", "\t", " ", "\v", "\x00", "\x1a", "\u00a0", "\u0085", "\u2028", "\u200b", "\u200e", "\ufeff", "\u3000", "−", "—", "é", "\xe2\x80", "\xc2",
	"0", "1", "12", "1_0", "1__0", "_1", "0x", "0x1f", "0b", "0b1", "0b2", ".", "..", "1.", ".5", "1e", "1e-", "1.5E+3", "0x1p", "0x1p-", "1abc", "1e5e",
	"(", ")", "[", "]", "{", "}", ",", ";", ":", "::", "=", "==", "<", "<=>", "|", "||", "@", "@@", "%", "?", "^", "+", `\G`,
}

// The engine tells where its lexer splits a text. Ours must split it there, or a string to the one is a
// statement to the other.
func TestScannerSplitsWhereTheEngineDoes(t *testing.T) {
	e := startEngine(t, t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{""}
	for range 20_000 {
		var text strings.Builder
		for range 1 + random.IntN(10) {
			text.WriteString(lexemes[random.IntN(len(lexemes))])
		}
		texts = append(texts, text.String())
	}
	rows := []byte("INSERT INTO texts FORMAT RowBinary\n")
	for _, text := range texts {
		rows = append(binary.AppendUvarint(rows, uint64(len(text))), text...)
	}
	mustAsk(t, e, "CREATE TABLE texts (s String) ENGINE = Memory")
	mustAsk(t, e, string(rows))
	a := ask(t, e, http.MethodPost, "SELECT tokenizeQuery(s) FROM texts FORMAT JSONCompactEachRow")
	equal(t, "status", a.status, http.StatusOK)
	compared := 0
	for i, line := range bytes.Split(bytes.TrimSpace([]byte(a.body)), []byte("\n")) {
		var row [1][]engineToken
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		want, whole := engineTokens(row[0])
		got := ownTokens(texts[i])
		if !whole {
			got = got[:min(len(got), len(want))]
		}
		compared += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", texts[i], got, want)
		}
	}
	if compared < len(texts)/2 {
		t.Errorf("only %d tokens were compared", compared)
	}
}

type engineToken struct {
	Begin, End int
	Type       string
}

// engineTokens returns the tokens that both lexers know, up to the first error, at which the engine gives up.
func engineTokens(tokens []engineToken) (known []string, whole bool) {
	for _, token := range tokens {
		kind := token.Type
		switch {
		case strings.HasPrefix(kind, "Error"):
			return known, false
		case kind == "BareWord", kind == "QuotedIdentifier", kind == "Number",
			strings.HasPrefix(kind, "Opening"), strings.HasPrefix(kind, "Closing"):
		case kind == "StringLiteral", kind == "HereDoc":
			kind = "String"
		default:
			continue
		}
		known = append(known, fmt.Sprint(kind, token.Begin, "-", token.End))
	}
	return known, true
}

func ownTokens(text string) (known []string) {
	open := map[string]string{"(": "OpeningRoundBracket", "[": "OpeningSquareBracket", "{": "OpeningCurlyBrace"}
	closing := map[string]string{")": "ClosingRoundBracket", "]": "ClosingSquareBracket", "}": "ClosingCurlyBrace"}
	s := scanner{text: text}
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		kind := map[tokenKind]string{tokenWord: "BareWord", tokenName: "QuotedIdentifier", tokenString: "String", tokenNumber: "Number",
			tokenOpen: open[t.text], tokenClose: closing[t.text]}[t.kind]
		if kind != "" {
			known = append(known, fmt.Sprint(kind, t.start, "-", t.end))
		}
	}
	return known
}
