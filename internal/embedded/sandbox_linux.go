package embedded

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoSandbox says that the system cannot confine a process. The error around it says why.
var errNoSandbox = errors.New("this system cannot confine the ClickHouse engine")

// Rights to files, as Landlock has them.
const (
	readFile    = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readTree    = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	runFile     = readFile | unix.LANDLOCK_ACCESS_FS_EXECUTE
	runTree     = readTree | unix.LANDLOCK_ACCESS_FS_EXECUTE
	useDevice   = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	ownTree     = readTree | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	firstRights = 1<<14 - 1 // of Landlock's second version: all but the later ones below
)

// protection is a part of the sandbox and the version of Landlock that brought it
// (https://docs.kernel.org/userspace-api/landlock.html).
type protection struct {
	abi            int
	what           string
	fs, net, scope uint64
}

// Without the second version the engine cannot work in a sandbox: it moves files from one directory to another.
var protections = []protection{
	{abi: 2, what: "files outside the data directory", fs: firstRights},
	{abi: 3, what: "their truncation", fs: unix.LANDLOCK_ACCESS_FS_TRUNCATE},
	{abi: 4, what: "TCP connections and listeners", net: unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP},
	{abi: 5, what: "device controls", fs: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	{abi: 6, what: "signals and abstract sockets", scope: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL},
	{abi: 9, what: "Unix sockets", fs: unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
	{abi: 10, what: "UDP", net: unix.LANDLOCK_ACCESS_NET_BIND_UDP | unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP},
}

// enterSandbox starts this program again, in a sandbox, with flag and the sandbox's description as further
// arguments. It returns only if it fails: with errNoSandbox, nothing has changed; with any other error the
// process is unfit to go on.
//
// Landlock confines a thread and what it starts, and a Go program has several threads by the time it runs. The
// call that reaches all of them (syscall.AllThreadsSyscall, and with it the usual packages) does not work
// where a C library is loaded, so one thread is confined and becomes the whole process by execve. What it
// listens on and holds open stays with it.
func enterSandbox(flag, dataDir, library string) error {
	version, err := landlockVersion()
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program to confine: %w", err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	rules, description := sandboxFor(version)
	ruleset, err := newRuleset(rules, program, dataDir, library)
	if err != nil {
		return fmt.Errorf("make a sandbox for the ClickHouse engine: %w", err)
	}
	runtime.LockOSThread() // for good: this thread is the one
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up the right to gain privileges: %w", err)
	}
	if _, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("enter the sandbox of the ClickHouse engine: %w", errno)
	}
	// The parent asked for this (dieWithParent), but of the process's first thread.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie the engine's life to its parent's: %w", err)
	}
	args := append(slices.Clone(os.Args), flag, description)
	err = syscall.Exec(program, args, childEnvironment(dataDir)) // #nosec G702 -- this program, with its own arguments
	return fmt.Errorf("start %s again in its sandbox: %w", program, err)
}

// landlockVersion returns the version of Landlock that the kernel has. An error is an errNoSandbox.
func landlockVersion() (int, error) {
	version, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, fmt.Errorf("%w: Landlock is not in this kernel, or switched off: %w", errNoSandbox, errno)
	}
	if version < 2 {
		return 0, fmt.Errorf("%w: with Landlock %d the engine could not rename its files; Linux 5.19 has the next", errNoSandbox, version)
	}
	return int(version), nil
}

func sandboxDescription() (string, error) {
	version, err := landlockVersion()
	if err != nil {
		return "", err
	}
	_, description := sandboxFor(version)
	return description, nil
}

// sandboxFor returns what a version of Landlock can keep the engine from, added up and in words.
func sandboxFor(version int) (all protection, description string) {
	var kept, missing []string
	for _, p := range protections {
		if p.abi > version {
			missing = append(missing, p.what)
			continue
		}
		kept = append(kept, p.what)
		all.fs, all.net, all.scope = all.fs|p.fs, all.net|p.net, all.scope|p.scope
	}
	description = fmt.Sprintf("Landlock %d denies %s", version, strings.Join(kept, ", "))
	if len(missing) > 0 {
		description += "; too old to deny " + strings.Join(missing, ", ")
	}
	return all, description
}

// newRuleset returns the descriptor of a sandbox that denies what all names, but for what the engine needs.
func newRuleset(all protection, program, dataDir, library string) (fd int, err error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all.fs, Handled_access_net: all.net, Scoped: all.scope}
	// Every version knows the size of its own attributes and ignores what comes after, as long as it is zero.
	ruleset, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	allowed := []struct {
		rights uint64
		paths  []string
	}{
		{ownTree, []string{dataDir}},
		{runFile, []string{program}},
		{readFile, []string{library}},
		// The C library, which the program and the engine are linked to, and its loader.
		{runTree, []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"}},
		{readFile, []string{"/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random"}},
		{useDevice, []string{"/dev/null"}},
		// The machine, of which the engine takes its share, and itself.
		{readTree, []string{"/usr/share/zoneinfo", "/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm/transparent_hugepage", "/proc/self"}},
		{readFile, []string{"/proc/meminfo", "/proc/stat", "/proc/cpuinfo", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/max_map_count"}},
	}
	for _, a := range allowed {
		for _, path := range a.paths {
			if err := allow(int(ruleset), path, a.rights&all.fs); err != nil {
				return -1, err
			}
		}
	}
	return int(ruleset), nil
}

// allow adds a rule for a path, if there is such a path.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow the engine %s: %w", path, errno)
	}
	return nil
}
