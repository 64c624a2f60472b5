package compose

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The services that systemd starts would run: with the variables of their example, their own
// configuration finds nothing missing.
func TestUnitsStartWithTheirExamples(t *testing.T) {
	for _, binary := range []string{"router", "ingest", "jobs-api"} {
		unit := readFile(t, "deploy/systemd/tidegate-"+binary+".service")
		for _, want := range []string{"\nEnvironmentFile=/etc/tidegate/" + binary + ".env\n", "\nExecStart=/usr/local/bin/" + binary + "\n", "\nUser=tidegate\n"} {
			if !strings.Contains(unit, want) {
				t.Errorf("the unit of %s has no %q", binary, want)
			}
		}
		env := map[string]string{}
		lines := readFile(t, "deploy/systemd/"+binary+".env.example") + strings.ReplaceAll(unit, "\nEnvironment=", "\n")
		for _, match := range regexp.MustCompile(`(?m)^(TIDEGATE_\w+)=(.*)$`).FindAllStringSubmatch(lines, -1) {
			env[match[1]] = match[2]
		}
		accepted(t, binary, binary, nil, env)
	}
}

// A service that cannot start yet is tried for as long as it takes. Below two seconds between
// tries, systemd gives up after the fifth within ten seconds, its defaults, and for the router
// closes the sockets too: nothing would bring it back when its reason is over.
func TestUnitsAreTriedForEver(t *testing.T) {
	for _, binary := range []string{"router", "ingest", "jobs-api"} {
		unit := readFile(t, "deploy/systemd/tidegate-"+binary+".service")
		found := regexp.MustCompile(`(?m)^RestartSec=(\d+)$`).FindStringSubmatch(unit)
		if found == nil {
			t.Errorf("the unit of %s has no RestartSec in whole seconds: systemd's is 100 ms", binary)
			continue
		}
		if seconds, err := strconv.Atoi(found[1]); err != nil || seconds*5 < 10 {
			t.Errorf("the unit of %s is tried again after %s s: five tries would be within ten seconds", binary, found[1])
		}
	}
}

// systemd itself finds nothing wrong with the units, and little that an intruder could do from
// them: its own measure goes from 0, which is nothing, to 10.
func TestUnitsByTheLibraryOfSystemd(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); errors.Is(err, exec.ErrNotFound) {
		t.Skip("systemd-analyze is not installed")
	}
	tree := t.TempDir()
	units := filepath.Join(tree, "etc", "systemd", "system")
	found, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "tidegate-*"))
	if err != nil || len(found) < 7 {
		t.Fatalf("units: %v, %v", found, err)
	}
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range []string{"network-online.target", "sockets.target", "multi-user.target", "timers.target", "time-set.target", "time-sync.target", "sysinit.target", "basic.target", "shutdown.target"} {
		write(filepath.Join(units, unit), "[Unit]\n", 0o644)
	}
	for _, binary := range []string{"router", "ingest", "jobs-api", "tidegate"} {
		write(filepath.Join(tree, "usr", "local", "bin", binary), "", 0o755)
	}
	// The most that each may have. A router and a control plane run workerd.
	exposure := map[string]string{"tidegate-router.service": "35", "tidegate-ingest.service": "20", "tidegate-jobs-api.service": "35", "tidegate-backup.service": "20"}
	var names []string
	for _, path := range found {
		names = append(names, filepath.Base(path))
		write(filepath.Join(units, filepath.Base(path)), readFile(t, "deploy/systemd/"+filepath.Base(path)), 0o644)
	}
	analyze := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"--root=" + tree}, args...)...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	analyze(slices.Concat([]string{"verify", "--man=no"}, names)...)
	for unit, most := range exposure {
		analyze("security", "--offline=true", "--threshold="+most, unit)
	}
}
