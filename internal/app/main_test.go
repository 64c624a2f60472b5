package app

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestRefusedFlagsSayWhatWouldBeTaken(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		command := &cobra.Command{}
		flags := command.Flags()
		flags.DurationP("for", "f", 0, "")
		flags.Int("limit", 0, "")
		flags.Float64("share", 0, "")
		flags.Bool("failed", false, "")
		flags.String("api", "", "")
		flags.IPSlice("hosts", nil, "")
		err := flags.Parse(args)
		if err == nil {
			t.Fatalf("%q is taken", args)
		}
		if got := plainFlagError(command, err).Error(); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
	f(`--for is "soon": it must be a duration, such as 90s, 5m or 1h30m`, "--for", "soon")
	f(`--for is "7d": it must be a duration, such as 90s, 5m or 1h30m`, "-f", "7d")
	f(`--limit is "1.5": it must be a whole number`, "--limit=1.5")
	f(`--share is "5%": it must be a number, such as 0.5`, "--share", "5%")
	f(`--failed is "maybe": it must be true or false`, "--failed=maybe")
	f(`invalid argument "x" for "--hosts" flag: invalid string being converted to IP address: x`, "--hosts", "x")
	f("unknown flag: --limt; did you mean --limit?", "--limt", "1")
	f("unknown flag: --fer; did you mean --for?", "--fer", "5s")
	f("unknown flag: --all", "--all") // as "api" is
	f("unknown shorthand flag: 'x' in -x", "-x")

	t.Setenv("TIDEGATE_JSON", "maybe")
	command := &cobra.Command{}
	command.Flags().Bool("json", false, "")
	err := FromEnvironment(command.Flags())
	if err == nil {
		t.Fatal("the variable is taken")
	}
	if got, want := plainFlagError(command, err).Error(), `environment variable TIDEGATE_JSON: --json is "maybe": it must be true or false`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	for _, text := range []string{"90s", "5m", "1h30m"} {
		if _, err := time.ParseDuration(text); err != nil {
			t.Errorf("the example %s: %v", text, err)
		}
	}
}
