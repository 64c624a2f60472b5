// Package seal encrypts the secrets that the control plane's database holds, under keys
// that are not in it. A sealed text names its key, so that keys can be replaced while
// texts of the old ones are still around, and belongs to one place: it opens nowhere else.
package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keys are the keys that open texts, one of which, the primary one, seals them: AES-256 in
// GCM, as a keyset of Tink. They never change; the methods that make others return those.
// Keys are safe for concurrent use. Nil has none: Seal leaves texts as they are, which is
// for tests and tools.
type Keys struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary string
	ids     []string // in the order in which they were added
	sealed  *bool    // set by Seal; nil for nobody
}

// New makes a key.
func New() (*Keys, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a key for secrets: %w", err)
	}
	return of(handle)
}

// Parse reads what Text has written: a keyset of Tink in JSON, in clear text.
func Parse(text []byte) (*Keys, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		// Without the cause, which may quote what was read.
		return nil, errors.New("it is not a keyset, as `tidegate secrets key` makes one")
	}
	return of(handle)
}

func of(handle *keyset.Handle) (*Keys, error) {
	sealer, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use the keyset for secrets: %w", err)
	}
	k := &Keys{handle: handle, aead: sealer}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("use the keyset for secrets: %w", err)
		}
		if entry.KeyStatus() != keyset.Enabled {
			continue
		}
		k.ids = append(k.ids, idOf(entry.KeyID()))
		if entry.IsPrimary() {
			k.primary = idOf(entry.KeyID())
		}
	}
	return k, nil
}

func idOf(id uint32) string { return fmt.Sprintf("%08x", id) }

// Text is what to keep in a file that nobody else can read.
func (k *Keys) Text() ([]byte, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, fmt.Errorf("write the keyset for secrets: %w", err)
	}
	return append(text.Bytes(), '\n'), nil
}

// Noting returns the keys with a Seal that sets *sealed, for one goroutine at a time.
func (k *Keys) Noting(sealed *bool) *Keys {
	if k == nil {
		return nil
	}
	noting := *k
	noting.sealed = sealed
	return &noting
}

// Primary is the id of the key that seals, 8 hex digits; empty for no keys.
func (k *Keys) Primary() string {
	if k == nil {
		return ""
	}
	return k.primary
}

// IDs are the ids of all keys, in the order in which they were added.
func (k *Keys) IDs() []string {
	if k == nil {
		return nil
	}
	return slices.Clone(k.ids)
}

// Has reports whether texts that the key has sealed can be opened.
func (k *Keys) Has(id string) bool { return k != nil && slices.Contains(k.ids, id) }

// Added returns the keys with a new one, which does not seal yet.
func (k *Keys) Added() (*Keys, error) {
	return k.changed("add a key", func(m *keyset.Manager) error {
		_, err := m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
}

// Promoted returns the keys with the newest one as the primary one.
func (k *Keys) Promoted() (*Keys, error) {
	newest, err := k.handle.Entry(k.handle.Len() - 1)
	if err != nil {
		return nil, fmt.Errorf("promote a key for secrets: %w", err)
	}
	return k.changed("promote a key", func(m *keyset.Manager) error { return m.SetPrimary(newest.KeyID()) })
}

// Retired returns the primary key alone.
func (k *Keys) Retired() (*Keys, error) {
	primary, err := k.handle.Primary()
	if err != nil {
		return nil, fmt.Errorf("retire keys for secrets: %w", err)
	}
	return k.changed("retire keys", func(m *keyset.Manager) error {
		for i := range k.handle.Len() {
			entry, err := k.handle.Entry(i)
			if err != nil {
				return err
			}
			if entry.KeyID() == primary.KeyID() {
				continue
			}
			if err := m.Delete(entry.KeyID()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (k *Keys) changed(what string, change func(*keyset.Manager) error) (*Keys, error) {
	manager := keyset.NewManagerFromHandle(k.handle)
	if err := change(manager); err != nil {
		return nil, fmt.Errorf("%s for secrets: %w", what, err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, fmt.Errorf("%s for secrets: %w", what, err)
	}
	return of(handle)
}

// ErrNoKey is in the error of Open where the key is not among the keys.
var ErrNoKey = errors.New("this process does not have the key")

// A sealed text is its prefix, the id of its key, a colon, and Tink's ciphertext in base64.
const prefix = "sealed:"

// Mark begins every text that the key has sealed.
func Mark(id string) string { return prefix + id + ":" }

// KeyOf returns the id of the key that has sealed a text, and false for one that is not
// sealed.
func KeyOf(text string) (id string, sealed bool) {
	rest, found := strings.CutPrefix(text, prefix)
	if !found {
		return "", false
	}
	id, _, found = strings.Cut(rest, ":")
	return id, found && len(id) == len("00000000")
}

// Seal encrypts a text for a place, which names the column and the row that it will be in.
func (k *Keys) Seal(text, place string) (string, error) {
	if k == nil {
		return text, nil
	}
	sealed, err := k.aead.Encrypt([]byte(text), []byte(place))
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", place, err)
	}
	if k.sealed != nil {
		*k.sealed = true
	}
	return Mark(k.primary) + base64.RawStdEncoding.EncodeToString(sealed), nil
}

// Open decrypts a text that was sealed for the place. One that is not sealed comes back as
// it is: it was written before there were keys.
func (k *Keys) Open(text, place string) (string, error) {
	id, sealed := KeyOf(text)
	if !sealed {
		return text, nil
	}
	if !k.Has(id) {
		return "", fmt.Errorf("open %s, which is sealed with the key %s: %w: give it the keys that the others have, and start it again", place, id, ErrNoKey)
	}
	ciphertext, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimPrefix(text, Mark(id)))
	if err != nil {
		return "", fmt.Errorf("open %s: what the key %s has sealed is damaged", place, id)
	}
	plain, err := k.aead.Decrypt(ciphertext, []byte(place))
	if err != nil {
		return "", fmt.Errorf("open %s: the key %s does not open it: it is damaged, or was sealed for another place", place, id)
	}
	return string(plain), nil
}
