package file

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidegate/pipeline/logpush/sink/sinktest"
)

// The story: the first file of a day was durable in a folder that was not. After a
// loss of power the new {DATE} folder was gone, with batches that were committed.
func TestEveryNewFolderIsMadeDurable(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "srv", "logs")
	opened, err := New(&url.URL{Path: root + "/shop/{DATE}"}, Options{Roots: []string{root}})
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	s := opened.(*sink)
	s.syncFolder = func(folder *os.File) error {
		synced = append(synced, filepath.Clean(folder.Name()))
		return folder.Sync()
	}
	put := func(want ...string) {
		t.Helper()
		synced = nil
		if err := s.Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
	}
	shop := filepath.Join(root, "shop")
	put(filepath.Join(top, "srv"), top, filepath.Join(shop, "20261009"), shop, root)
	put(filepath.Join(shop, "20261009"), shop, root)
}

func TestAFolderThatCannotBeMadeDurableIsAnError(t *testing.T) {
	root := t.TempDir()
	opened, err := New(&url.URL{Path: root + "/shop"}, Options{Roots: []string{root}})
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*sink)
	s.syncFolder = func(folder *os.File) error {
		if filepath.Clean(folder.Name()) == root {
			return os.ErrInvalid
		}
		return nil
	}
	if err := s.Put(t.Context(), sinktest.Object("a.log.gz", "a")); err == nil {
		t.Error("the batch counts as stored though its folder may vanish")
	}
}
