package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// open opens the file that a flag names; "-" is standard input.
func open(stdin io.Reader, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(stdin), nil
	}
	return os.Open(path)
}

// readStrict decodes one JSON value, whose name what is, and refuses members that v has not.
func readStrict(stdin io.Reader, path, what string, v any) error {
	in, err := open(stdin, path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	decoder := json.NewDecoder(in)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: something follows the %s", path, what)
	}
	return nil
}

// readAll returns what a file holds; more than most bytes is an error.
func readAll(stdin io.Reader, path string, most int) ([]byte, error) {
	in, err := open(stdin, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case len(text) > most:
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", path, most)
	}
	return text, nil
}
