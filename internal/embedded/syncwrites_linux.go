package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// syncFlag is FS_SYNC_FL of linux/fs.h, the S of chattr(1).
const syncFlag = 0x8

// syncWrites has every write to a file below dir, also to one that is made later, return when it is on the disk, or
// with the error of the disk. Only of ext4 it is known that new files and folders take that over from their folder.
func syncWrites(dir string) error {
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return fmt.Errorf("ask for the file system of %s: %w", dir, err)
	}
	if at.Type != unix.EXT4_SUPER_MAGIC {
		return errors.New("the file system is not ext4")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(syncFile(f), f.Close())
	})
	return errors.Join(err, root.Close())
}

func syncFile(f *os.File) error {
	fd := int(f.Fd()) // #nosec G115 -- a small number
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&syncFlag == 0 {
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|syncFlag))
	}
	if err != nil {
		return fmt.Errorf("have writes to %s wait for the disk: %w", f.Name(), err)
	}
	return nil
}
