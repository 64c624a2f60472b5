package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"tidegate/schema/control"
)

// audit records a change: who made it, to what, and how the thing looked before
// and after. Nil means that it was not there. Callers mask secrets first.
func (t *tx) audit(ctx context.Context, accountID, action, target string, before, after any) error {
	texts := [2]sql.NullString{}
	for i, v := range []any{before, after} {
		if v == nil {
			continue
		}
		text, err := toJSON(v)
		if err != nil {
			return fmt.Errorf("audit %s: %w", action, err)
		}
		texts[i] = sql.NullString{String: text, Valid: true}
	}
	who := control.ActorFrom(ctx)
	if who == (control.Actor{}) {
		who.Source = "system"
	}
	_, err := t.ExecContext(ctx, `INSERT INTO audit_log
		(id, happened_on, account_id, token_id, email, source, action, target, before_json, after_json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		uuid.NewString(), t.now.UnixMicro(), accountID, who.TokenID, who.Email, who.Source, action, target, texts[0], texts[1])
	if err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return nil
}
