package app

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Network file systems, by statfs(2)'s magic numbers.
var networkFileSystems = map[uint32]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x517b: "SMB", 0x00c36400: "Ceph", 0x01021997: "9p", 0x5346414f: "AFS", 0x0bd00bd0: "Lustre",
}

func networkFileSystem(path string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return ""
	}
	return networkFileSystems[uint32(s.Type)]
}

// spaceOf the disk that a folder is on, or will be.
func spaceOf(dir string) Finding {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	for path := filepath.Clean(dir); err == syscall.ENOENT && filepath.Dir(path) != path; {
		path = filepath.Dir(path)
		err = syscall.Statfs(path, &s)
	}
	if err != nil {
		return Finding{"disk space", JudgedUnknown, fmt.Sprintf("The space of the disk of %s cannot be told: %v.", dir, err), "Look with df."}
	}
	size := uint64(s.Bsize)
	return spaceFinding(dir, s.Bavail*size, s.Blocks*size)
}

// lockHolder finds who has a file's lock in /proc/locks; a process of another container is
// not to be seen there.
func lockHolder(f *os.File) string {
	const unseen = "a process that cannot be seen from here"
	info, err := f.Stat()
	if err != nil {
		return unseen
	}
	inode := strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	found := unseen
	eachLine("/proc/locks", func(fields []string) { // 1: FLOCK ADVISORY WRITE 1234 00:2d:5678 0 EOF
		if len(fields) > 5 && fields[1] == "FLOCK" && strings.HasSuffix(fields[5], ":"+inode) {
			if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
				found = processName(pid)
			}
		}
	})
	return found
}

func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d, which has ended or cannot be seen", pid)
	}
	return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid)
}

// whoListens finds who listens on the port of an address.
func whoListens(addr string) string {
	const unseen = "a process that this user cannot see"
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return unseen
	}
	number, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port) // of this machine's own table
	if err != nil {
		return unseen
	}
	suffix := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(number >> 8), byte(number)}))
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		eachLine(table, func(fields []string) { // sl local_address rem_address st ... inode
			if len(fields) > 9 && strings.HasSuffix(fields[1], suffix) && fields[3] == "0A" { // listens
				sockets["socket:["+fields[9]+"]"] = true
			}
		})
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unseen
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && sockets[target] {
			if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
				return processName(pid)
			}
		}
	}
	return unseen
}

// eachLine calls fn with the fields of each line of a file; a file that cannot be read has none.
func eachLine(path string, fn func(fields []string)) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // it is only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fn(strings.Fields(lines.Text()))
	}
}
