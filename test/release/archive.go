package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// files are the paths within an archive, each with the file that has its content.
func (s *source) files(bin string) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range binaries {
		files["bin/"+name] = filepath.Join(bin, name)
	}
	for _, part := range payload {
		before := len(files)
		err := filepath.WalkDir(filepath.Join(s.folder, part), func(file string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name, err := filepath.Rel(s.folder, file)
			files[filepath.ToSlash(name)] = file
			return err
		})
		if err == nil && len(files) == before {
			err = errors.New("there is nothing in it")
		}
		if err != nil {
			return nil, fmt.Errorf("take %s along: %w", part, err)
		}
	}
	return files, nil
}

// writeArchive writes files into one folder of a compressed tar, sorted, of nobody, and
// as if all had been written at one time.
func writeArchive(w io.Writer, folder string, files map[string]string, written time.Time) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := addFile(archive, path.Join(folder, name), files[name], written); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func addFile(archive *tar.Writer, name, file string, written time.Time) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is read only
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", file)
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	header := tar.Header{Name: name, Mode: mode, Size: info.Size(), ModTime: written, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

// unpack lays the files of a tar out in a folder, which nothing in it can leave.
func unpack(file, folder string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is read only
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	archive := tar.NewReader(f)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackOne(root, header, archive)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", file, err)
		}
	}
}

func unpackOne(root *os.Root, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeXGlobalHeader: // git writes the commit there
		return nil
	case tar.TypeDir:
		return root.MkdirAll(path.Clean(header.Name), 0o750)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%s is neither a file nor a folder", header.Name)
	}
	f, err := root.OpenFile(header.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, header.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
