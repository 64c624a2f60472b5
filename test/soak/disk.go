package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// disk is where the platform keeps its data: a file system of its own where that can be had, so that it can be
// filled, frozen and slowed down without anybody else's noticing.
type disk struct {
	dir         string
	image       string
	device      string            // major:minor; "" without a file system of its own
	unavailable map[string]string // faults that cannot be had here, and why
}

// diskBytes is enough for the events of an hour at the default rate.
const diskBytes = 2 << 30

func newDisk(dir string) (*disk, error) {
	d := &disk{dir: filepath.Join(dir, "disk"), image: filepath.Join(dir, "image"), unavailable: map[string]string{}}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	if err := d.mount(); err != nil {
		d.image = ""
		for _, name := range []string{faultFullDisk, faultFrozenDisk, faultSlowDisk} {
			d.unavailable[name] = "it needs a file system of its own: " + err.Error()
		}
	}
	return d, nil
}

func (d *disk) mount() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may mount one")
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(diskBytes), f.Close())
	}
	if err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", "-m", "0", d.image); err != nil {
		return err
	}
	if err := command("mount", "-o", "loop", d.image, d.dir); err != nil {
		return err
	}
	info, err := os.Stat(d.dir)
	if err != nil {
		return err
	}
	number := info.Sys().(*syscall.Stat_t).Dev
	d.device = fmt.Sprintf("%d:%d", number>>8&0xfff, number&0xff|number>>12&0xfff00)
	return nil
}

// fill takes all of the free space and returns how to give it back.
func (d *disk) fill() (undo func() error, err error) {
	var files []string
	undo = func() error {
		var err error
		for _, name := range files {
			err = errors.Join(err, os.Remove(name))
		}
		return err
	}
	for n := 0; n < 40; n++ {
		var s syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &s); err != nil {
			return undo, err
		}
		free := s.Bavail * uint64(s.Bsize) // #nosec G115 -- not negative
		if free < 64<<10 {
			return undo, nil
		}
		// The file system needs some of it for itself, so ask for less and less.
		for size := free; ; size /= 2 {
			name := filepath.Join(d.dir, fmt.Sprintf("ballast-%d", n))
			err := command("fallocate", "-l", fmt.Sprint(size), name)
			if err == nil {
				files = append(files, name)
				break
			}
			_ = os.Remove(name) // what it got before it failed
			if size < 8<<10 {
				return undo, nil
			}
		}
	}
	return undo, nil
}

// freeze makes every write wait, as a disk does that hangs.
func (d *disk) freeze() (undo func() error, err error) {
	if err := command("fsfreeze", "-f", d.dir); err != nil {
		return nil, &unavailable{err}
	}
	return func() error { return command("fsfreeze", "-u", d.dir) }, nil
}

func (d *disk) close() error {
	if d.image == "" {
		return nil
	}
	return command("umount", d.dir)
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput() // #nosec G204 -- our own words
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
