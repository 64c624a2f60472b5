// Package clickhousetest makes the tables of tests.
package clickhousetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Tables makes migrated tables in one database after the other. Migrations are some sixty statements, and the
// engine takes longest for those that change a table of many columns, so only the first database goes through
// them. The others get what that one has become: a statement for each table and view.
type Tables struct {
	mu   sync.Mutex
	made []string // statements, in which {database} stands for its name; nil until there was a database
}

// Make makes the tables in database, which is not there yet, on the server at addr, http://[user:password@]host:port.
// migrate does so by the migrations, with the default retention.
func (t *Tables) Make(ctx context.Context, addr, database string, migrate func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil {
		if err := migrate(); err != nil {
			return err
		}
		made, err := statements(ctx, addr, database)
		if err != nil {
			return fmt.Errorf("read what migrations made of %s: %w", database, err)
		}
		t.made = made
		return nil
	}
	for _, statement := range t.made {
		if _, err := Ask(ctx, addr, strings.ReplaceAll(statement, "{database}", database)); err != nil {
			return err
		}
	}
	return nil
}

// statements make another database like this one, without the rows.
func statements(ctx context.Context, addr, database string) ([]string, error) {
	// Views are made when there is what they read and write.
	tables, err := Ask(ctx, addr, "SELECT create_table_query FROM system.tables WHERE database = '"+database+"' ORDER BY engine = 'MaterializedView', name FORMAT JSONCompactColumns")
	if err != nil {
		return nil, err
	}
	var columns [][]string
	if err := json.Unmarshal([]byte(tables), &columns); err != nil {
		return nil, err
	}
	migrations, err := Ask(ctx, addr, "SELECT groupArray((number, name)) FROM "+database+".schema_migrations FORMAT TabSeparatedRaw")
	if err != nil {
		return nil, err
	}
	made := []string{"CREATE DATABASE " + database}
	made = append(made, columns[0]...)
	made = append(made, "INSERT INTO "+database+".schema_migrations SELECT m.1, m.2, now64(3) FROM (SELECT arrayJoin("+migrations+") AS m)")
	for i := range made {
		made[i] = strings.ReplaceAll(made[i], database, "{database}")
	}
	return made, nil
}

// Ask sends a statement to the server at addr and returns the answer.
func Ask(ctx context.Context, addr, statement string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, addr, strings.NewReader(statement))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: HTTP %d: %s", statement, res.StatusCode, body)
	}
	return strings.TrimSpace(string(body)), nil
}
