package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/runtime"
)

const (
	// spaceFault is less than ClickHouse wants for one merge; spaceWarning is the share that
	// ClickHouse and Kafka take as the last call.
	spaceFault   = 256 << 20
	spaceWarning = 0.1
	// A router has two files for each request under way, and the engine hundreds for its parts.
	openFilesFault   = 1024
	openFilesWarning = 65536
	// certificateSoon is longer than people are away, and shorter than any authority's renewal.
	certificateSoon = 14 * 24 * time.Hour
)

// dataDirFinding tries to write where state is kept.
func dataDirFinding(dir string, database bool) Finding {
	const check = "data folder"
	existing := dir
	for {
		if _, err := os.Stat(existing); !errors.Is(err, os.ErrNotExist) || filepath.Dir(existing) == existing {
			break
		}
		existing = filepath.Dir(existing)
	}
	probe, err := os.CreateTemp(existing, ".doctor-")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return Finding{check, JudgedFault, fmt.Sprintf("Nothing can be written to %s: %v.", existing, err), "Give the folder to the user of the process, or name another with --data-dir."}
	}
	if kind := networkFileSystem(existing); kind != "" {
		f := Finding{check, JudgedWarning, fmt.Sprintf("%s is on a network file system (%s): locks may not hold there, and writes may be slow.", existing, kind), "Use a folder on a local disk."}
		if database {
			f.State = JudgedFault
			f.Sentence = fmt.Sprintf("%s is on a network file system (%s), on which SQLite can lose its database.", existing, kind)
		}
		return f
	}
	if existing != dir {
		return ok(check, "%s is not there yet, and can be made.", dir)
	}
	return ok(check, "%s can be written to.", dir)
}

// spaceFinding judges the space of the disk that a folder is on.
func spaceFinding(dir string, free, total uint64) Finding {
	const check, advice = "disk space", "Make room, or move --data-dir to a larger disk."
	text := fmt.Sprintf("The disk of %s has %d MiB free of %d.", dir, free>>20, total>>20)
	switch {
	case free < spaceFault:
		return Finding{check, JudgedFault, text, advice}
	case float64(free) < spaceWarning*float64(total):
		return Finding{check, JudgedWarning, text, advice}
	default:
		return ok(check, "%s", text)
	}
}

// lock of a data folder.
type lock struct {
	held   bool
	holder string // as far as this process may know
	err    error
}

// lookAtLock tries a lock that the kernel ends with its holder, and gives it back.
func lookAtLock(path string) lock {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return lock{}
	}
	if err != nil {
		return lock{err: err}
	}
	defer func() { _ = f.Close() }() // which also ends the lock
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return lock{}
	case errors.Is(err, syscall.EWOULDBLOCK):
		return lock{held: true, holder: lockHolder(f)}
	default:
		return lock{err: err}
	}
}

// Runs reports whether somebody has the lock of a data folder, or may have it, as a user who may
// not look cannot tell; and who, as far as this process may know.
func Runs(dataDir string) (held bool, holder string) {
	l := lookAtLock(filepath.Join(dataDir, "lock"))
	return l.held || l.err != nil, l.holder
}

func (c *DoctorConfig) lockFinding(l lock) Finding {
	const check = "running"
	file := filepath.Join(c.DataDir, "ready.json")
	_, err := os.Stat(file)
	told := err == nil
	switch {
	case l.err != nil:
		return Finding{check, JudgedUnknown, fmt.Sprintf("Whether a platform runs in %s cannot be told: %v.", c.DataDir, l.err), "Run this as the user of the platform."}
	case l.held && !told:
		return Finding{check, JudgedWarning, fmt.Sprintf("%s has the lock of %s, and has not said that it serves.", l.holder, c.DataDir), "If it does not start within a minute, look at its log, then end it."}
	case l.held:
		return ok(check, "A platform runs in %s: %s.", c.DataDir, l.holder)
	case told && c.Embedded:
		return Finding{check, JudgedWarning, fmt.Sprintf("%s names a platform that does not run any more: it was killed.", file), "Start it with \"tidegate up\", which replaces the file, or remove the file: commands find the API by it."}
	default:
		return ok(check, "No platform runs in %s.", c.DataDir)
	}
}

// portFindings tries every address that the process would listen on.
func (c *DoctorConfig) portFindings() []Finding {
	var list []Finding
	// A "tidegate up" that does not run has no port: whoever has it is another platform.
	mine := !c.Embedded || lookAtLock(filepath.Join(c.DataDir, "lock")).held
	visitSettings(c.Flags, func(flag *pflag.Flag) {
		addr := flag.Value.String()
		if !strings.HasSuffix(flag.Name, "-addr") || addr == "" ||
			flag.Name == "kafka-addr" && len(c.Kafka) > 0 || flag.Name == "clickhouse-addr" && c.ClickHouse != "" {
			return
		}
		list = append(list, portFinding(flag.Name, addr, mine))
	})
	return list
}

// portFinding tries one. mine says that a process of ours may be the one that is asked about.
func portFinding(flag, addr string, mine bool) Finding {
	check := "port " + flag
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err == nil {
		_ = l.Close() // nobody has connected
		return ok(check, "%s is free.", addr)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := whoListens(addr)
		ours := ownProcess(who)
		if ours && mine {
			return ok(check, "%s is used by %s.", addr, who)
		}
		advice := fmt.Sprintf("End that, or choose another address with --%s.", flag)
		if ours {
			advice = fmt.Sprintf("That is a platform of another data folder: name it in --data-dir to have it looked at, or choose another address for this one with --%s.", flag)
		}
		return Finding{check, JudgedFault, fmt.Sprintf("%s is in use by %s.", addr, who), advice}
	case errors.Is(err, syscall.EACCES):
		return Finding{check, JudgedFault, fmt.Sprintf("This user may not listen on %s.", addr), fmt.Sprintf("Choose a port above 1023 with --%s, or give the binary the capability CAP_NET_BIND_SERVICE.", flag)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return Finding{check, JudgedFault, fmt.Sprintf("%s is not an address of this machine.", addr), fmt.Sprintf("Name one of its own, or none (:port), in --%s.", flag)}
	default:
		return Finding{check, JudgedFault, fmt.Sprintf("Nobody can listen on %s: %v.", addr, err), fmt.Sprintf("Correct --%s.", flag)}
	}
}

// ownProcess tells a name of processName that is one of Tidegate's.
func ownProcess(who string) bool {
	name, _, _ := strings.Cut(who, " ")
	return slices.Contains([]string{"tidegate", "router", "ingest", "jobs-api"}, name)
}

func openFilesFinding(most uint64) Finding {
	const check = "open files"
	const advice = "Raise it: LimitNOFILE= in the service's unit, --ulimit nofile= of the container, or /etc/security/limits.conf."
	text := fmt.Sprintf("A process may have %d files and connections open.", most)
	switch {
	case most < openFilesFault:
		return Finding{check, JudgedFault, text, advice}
	case most < openFilesWarning:
		return Finding{check, JudgedWarning, text + " A busy router has two for each request under way.", advice}
	default:
		return ok(check, "%s", text)
	}
}

// openFilesMax is what a process may raise its bound to, as Go's do at their start.
func openFilesMax() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Max
}

// certificateFindings look at all files of certificates that flags name, each with its key,
// and of authorities.
func certificateFindings(f *pflag.FlagSet, now time.Time) []Finding {
	var list []Finding
	visitSettings(f, func(flag *pflag.Flag) {
		if strings.HasSuffix(flag.Name, "-ca-file") {
			for _, path := range filesOf(flag) {
				list = append(list, authorityFinding(flag.Name, path, now))
			}
		}
		if !strings.HasSuffix(flag.Name, "-cert") && !strings.HasSuffix(flag.Name, "-cert-file") {
			return
		}
		key := f.Lookup(strings.Replace(flag.Name, "-cert", "-key", 1))
		keys := filesOf(key)
		for i, path := range filesOf(flag) {
			keyFile := ""
			if i < len(keys) {
				keyFile = keys[i]
			}
			list = append(list, certificateFinding(flag.Name, path, keyFile, now))
		}
	})
	return list
}

// filesOf a flag that names one or several.
func filesOf(flag *pflag.Flag) []string {
	if flag == nil {
		return nil
	}
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	if flag.Value.String() == "" {
		return nil
	}
	return []string{flag.Value.String()}
}

func certificateFinding(flag, certFile, keyFile string, now time.Time) Finding {
	check := "certificate " + flag
	text, err := os.ReadFile(certFile)
	if err == nil && keyFile != "" {
		_, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	var leaf *x509.Certificate
	if err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			err = errors.New("there is no PEM in it")
		} else {
			leaf, err = x509.ParseCertificate(block.Bytes)
		}
	}
	const renew = "Renew it, and replace the file and its key."
	switch {
	case err != nil:
		return Finding{check, JudgedFault, fmt.Sprintf("%s cannot be used: %v.", certFile, err), fmt.Sprintf("Name a PEM file with the certificate first in --%s, and its key beside.", flag)}
	case now.After(leaf.NotAfter):
		return Finding{check, JudgedFault, fmt.Sprintf("%s expired on %s.", certFile, leaf.NotAfter.Format(time.RFC3339)), renew}
	case now.Before(leaf.NotBefore):
		return Finding{check, JudgedFault, fmt.Sprintf("%s is not valid before %s.", certFile, leaf.NotBefore.Format(time.RFC3339)), "Look at this machine's clock, or use an earlier certificate."}
	case now.Add(certificateSoon).After(leaf.NotAfter):
		return Finding{check, JudgedWarning, fmt.Sprintf("%s expires on %s.", certFile, leaf.NotAfter.Format(time.RFC3339)), renew}
	default:
		return ok(check, "%s is valid until %s.", certFile, leaf.NotAfter.Format(time.RFC3339))
	}
}

// authorityFinding looks at a file of authorities. One that has ended makes everything that it
// has signed worthless, however long that is valid; beside others it may be left over.
func authorityFinding(flag, file string, now time.Time) Finding {
	check := "authority " + flag
	list, err := authoritiesIn(file)
	if err != nil {
		return Finding{check, JudgedFault, fmt.Sprintf("%s cannot be used: %v.", file, err), fmt.Sprintf("Name a PEM file with the certificates of authorities in --%s.", flag)}
	}
	span := func(c *x509.Certificate) string {
		return fmt.Sprintf("%s is valid from %s until %s", c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	invalid := func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) }
	first := slices.MinFunc(list, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	old := slices.IndexFunc(list, invalid)
	const renew = "Put the certificate that follows it into the file, and renew what it has signed."
	switch {
	case !slices.ContainsFunc(list, func(c *x509.Certificate) bool { return !invalid(c) }):
		return Finding{check, JudgedFault, fmt.Sprintf("No authority in %s is valid now: %s.", file, span(first)), renew}
	case old >= 0:
		return Finding{check, JudgedWarning, fmt.Sprintf("An authority in %s is not valid now: %s.", file, span(list[old])), "Take it out of the file, if nothing is signed by it any more. Otherwise: " + renew}
	case now.Add(certificateSoon).After(first.NotAfter):
		return Finding{check, JudgedWarning, fmt.Sprintf("An authority in %s ends soon: %s.", file, span(first)), renew}
	default:
		return ok(check, "%s is valid until %s.", file, first.NotAfter.Format(time.RFC3339))
	}
}

// authoritiesIn a file are one or more.
func authoritiesIn(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, certificate)
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate in PEM in it")
	}
	return list, nil
}

// workerdFinding looks for the Workers runtime, and whether this machine could run it.
func workerdFinding(hint string) Finding {
	const check = "workers runtime"
	const advice = "Run \"make deps\", or name workerd for this machine in --workerd; versions that are origins need none."
	path, err := runtime.FindWorkerd(hint)
	if err != nil {
		f := Finding{check, JudgedWarning, "Workers cannot run here: " + err.Error() + ".", advice}
		if hint != "" {
			f.State = JudgedFault
		}
		return f
	}
	binary, err := elf.Open(path)
	if err != nil {
		if goruntime.GOOS != "linux" {
			return ok(check, "It is %s.", path)
		}
		return Finding{check, JudgedFault, fmt.Sprintf("%s is no program for Linux: %v.", path, err), advice}
	}
	machine := binary.Machine
	_ = binary.Close() // it was read
	if want, known := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goruntime.GOARCH]; known && machine != want {
		return Finding{check, JudgedFault, fmt.Sprintf("%s is for %s, and this machine is %s.", path, machine, want), advice}
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		return Finding{check, JudgedFault, fmt.Sprintf("%s may not be executed.", path), "chmod +x " + path}
	}
	return ok(check, "It is %s.", path)
}
