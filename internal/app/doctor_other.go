//go:build !linux

package app

import "os"

func networkFileSystem(string) string { return "" }

func spaceOf(dir string) Finding {
	return Finding{"disk space", JudgedUnknown, "The space of the disk of " + dir + " is looked at on Linux only.", "Look with df."}
}

func lockHolder(*os.File) string { return "a process" }

func whoListens(string) string { return "a process" }
