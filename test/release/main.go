// Command release makes what is published of a commit: for each platform an archive and
// its SBOM, and the checksums of all. It builds what the commit holds, not what lies in
// the working folder. Whoever builds the same commit by the same version of Go gets the
// same bytes.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// platforms are what archives are made for, as GOOS-GOARCH: where the Workers runtime is to be had.
var platforms = []string{"linux-amd64", "linux-arm64"}

var binaries = []string{"tidegate", "router", "ingest", "jobs-api"}

// payload is what an archive has of the source, beside binaries: files, and folders with
// all that is in them. deps/ names the engines that `npm ci` installs there.
var payload = []string{
	"CHANGELOG.md", "LICENSE", "README.md", "dashboards/grafana", "deploy",
	"deps/.npmrc", "deps/package-lock.json", "deps/package.json", "docs", "schema/openapi.yaml",
}

func main() {
	commit := flag.String("commit", "HEAD", "what is released, as git names it")
	out := flag.String("out", "dist", "folder of the archives; it must be empty or not exist")
	unscanned := flag.Bool("unscanned", false, "release also where no database of vulnerabilities can be reached; what one of them knows of refuses a release all the same")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := release(ctx, ".", *commit, *out, platforms, scan(!*unscanned)); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// source is a commit, laid out in a folder.
type source struct {
	folder, version, commit string
	date                    time.Time
}

// release writes everything into the folder out, and prints the checksums. What look refuses is not built.
func release(ctx context.Context, repository, commit, out string, platforms []string, look func(context.Context, *source) error) (err error) {
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: remove it, or name another folder with -out", out)
	}
	work, err := os.MkdirTemp("", "tidegate-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	s, err := checkOut(ctx, repository, commit, filepath.Join(work, "source"))
	if err != nil {
		return err
	}
	if err := look(ctx, s); err != nil {
		return err
	}
	for _, platform := range platforms {
		fmt.Fprintf(os.Stderr, "%s %s for %s\n", s.version, s.commit, platform)
		if err := s.publish(ctx, platform, filepath.Join(work, platform), out); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	sums, err := checksums(out)
	if err != nil {
		return err
	}
	fmt.Print(sums)
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(sums), 0o644)
}

// publish makes what there is for one platform.
func (s *source) publish(ctx context.Context, platform, bin, out string) error {
	if err := s.build(ctx, platform, bin); err != nil {
		return err
	}
	name := "tidegate-" + s.version + "-" + platform
	files, err := s.files(bin)
	if err != nil {
		return err
	}
	sbom, err := s.sbom(ctx, platform, filepath.Join(bin, "tidegate"))
	if err != nil {
		return fmt.Errorf("make the SBOM: %w", err)
	}
	if err := os.WriteFile(filepath.Join(out, name+".cdx.json"), sbom, 0o644); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(out, name+".tar.gz"))
	if err != nil {
		return err
	}
	if err := writeArchive(archive, name, files, s.date); err != nil {
		_ = archive.Close()
		return fmt.Errorf("write %s: %w", archive.Name(), err)
	}
	return archive.Close()
}

// checkOut lays a commit out in a folder.
func checkOut(ctx context.Context, repository, commit, folder string) (*source, error) {
	git := func(args ...string) (string, error) {
		out, err := run(exec.CommandContext(ctx, "git", append([]string{"-C", repository}, args...)...))
		return strings.TrimSpace(string(out)), err
	}
	s := source{folder: folder}
	var err error
	if s.commit, err = git("rev-parse", "--verify", commit+"^{commit}"); err != nil {
		return nil, err
	}
	// As many digits in every clone, however many commits that has.
	if s.version, err = git("describe", "--tags", "--always", "--abbrev=12", s.commit); err != nil {
		return nil, err
	}
	seconds, err := git("show", "-s", "--format=%ct", s.commit)
	if err != nil {
		return nil, err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read the time of %s: %w", s.commit, err)
	}
	s.date = time.Unix(unix, 0).UTC()
	tree := filepath.Join(filepath.Dir(folder), "source.tar")
	if _, err := git("archive", "--format=tar", "--output="+tree, s.commit); err != nil {
		return nil, err
	}
	return &s, unpack(tree, folder)
}

// scan has the commit's own script look for known vulnerabilities. It passes where a database cannot be reached,
// unless that is required.
func scan(required bool) func(context.Context, *source) error {
	return func(ctx context.Context, s *source) error {
		scan := exec.CommandContext(ctx, "bash", ".ci/vulnerabilities")
		scan.Dir, scan.Stdout, scan.Stderr = s.folder, os.Stderr, os.Stderr
		scan.Env = append(os.Environ(), "TIDEGATE_REQUIRE_SCAN=0")
		advice := ""
		if required {
			scan.Env = append(os.Environ(), "TIDEGATE_REQUIRE_SCAN=1")
			advice = "; where that is because a database cannot be reached, -unscanned releases all the same"
		}
		if err := scan.Run(); err != nil {
			return fmt.Errorf("scan %s for vulnerabilities: %w%s", s.version, err, advice)
		}
		return nil
	}
}

// build makes the binaries. What the environment says of Go is left out where it would
// show in them.
func (s *source) build(ctx context.Context, platform, bin string) error {
	goos, goarch, _ := strings.Cut(platform, "-")
	const app = "tidegate/internal/app."
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-o", bin + string(filepath.Separator),
		"-ldflags", "-s -w -X " + app + "Version=" + s.version + " -X " + app + "Commit=" + s.commit + " -X " + app + "Date=" + s.date.Format(time.RFC3339),
	}
	for _, name := range binaries {
		args = append(args, "./cmd/"+name)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = s.folder
	build.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0",
		"GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	_, err := run(build)
	return err
}

// run answers what a program wrote, or an error with what it complained of.
func run(command *exec.Cmd) ([]byte, error) {
	var complaint strings.Builder
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, complaint.String())
	}
	return out, nil
}

// checksums is what sha256sum writes of the files in a folder.
func checksums(folder string) (string, error) {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return "", err
	}
	var lines []string
	for _, e := range entries {
		f, err := os.Open(filepath.Join(folder, e.Name()))
		if err != nil {
			return "", err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		_ = f.Close() // it was read only
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", hash.Sum(nil), e.Name()))
	}
	return strings.Join(lines, ""), nil
}
