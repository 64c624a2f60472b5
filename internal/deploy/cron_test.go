package deploy

import (
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestCronExpressions(t *testing.T) {
	for _, good := range []string{
		"* * * * *", "*/30 * * * *", "0 17 * * sun", "10 7 * * MON-FRI", "0 15 1 * *", "59 23 LW * *", "0 18 * * 6L",
		"0 9 * * MON#1", "1,2,3 0-5/2 1-31 JAN,3-5 *", "45 2 * * 1-7", " 0  0 * * * ",
	} {
		if err := ParseCron(good); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
}

func TestBadCronExpressionsAreRefusedByName(t *testing.T) {
	for bad, part := range map[string]string{
		"":               "0 fields",
		"* * * *":        "4 fields",
		"* * * * * *":    "6 fields",
		"60 * * * *":     `"60" as its minute`,
		"* 24 * * *":     `"24" as its hour`,
		"* * 0 * *":      `"0" as its day of the month`,
		"* * * 13 *":     `"13" as its month`,
		"* * * * 8":      `"8" as its day of the week`,
		"*/0 * * * *":    `"*/0"`,
		"5-1 * * * *":    `"5-1"`,
		"1, * * * *":     `"" as its minute`,
		"+1 * * * *":     `"+1"`,
		"L * * * *":      `"L" as its minute`,
		"* * * * MON#6":  `"MON#6"`,
		"* * * * noday":  `"noday"`,
		"every 5 minute": "3 fields",
	} {
		err := ParseCron(bad)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: error %v does not tell of %s", bad, err, part)
		}
	}
}
