package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"tidegate/schema/control"
)

// auditTextMax bounds each of before and after, in bytes: a page has up to 1,000 entries.
const auditTextMax = 64 << 10

// sourceSystem stands for an actor that is nobody: the platform itself.
const sourceSystem = "system"

// audit records a change: who made it, to what, and how the thing looked before
// and after. Nil means that it was not there; what is longer than auditTextMax is left out,
// and its size kept. Callers mask secrets first.
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
		texts[i] = sql.NullString{String: bounded(text), Valid: true}
	}
	who := control.ActorFrom(ctx)
	if who == (control.Actor{}) {
		who.Source = sourceSystem
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

// AuditLog returns entries of an account, newest first unless the filter says otherwise;
// total counts all that it means.
func (s *Store) AuditLog(ctx context.Context, accountID string, f control.AuditFilter, limit, offset int) (list []control.AuditEntry, total int, err error) {
	where, args := auditConditions(accountID, f)
	order := "DESC"
	if f.OldestFirst {
		order = "ASC"
	}
	err = s.read(ctx, "read the audit log", func(t *sql.Tx) error {
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_log WHERE `+where, args...).Scan(&total); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			var e control.AuditEntry
			var at int64
			var before, after sql.NullString
			err := row.Scan(&e.ID, &at, &e.AccountID, &e.Actor.TokenID, &e.Actor.Email, &e.Actor.Source, &e.Action, &e.Target, &before, &after)
			e.HappenedOn, e.Before, e.After = fromMicros(at), something(bounded(before.String)), something(bounded(after.String))
			list = append(list, e)
			return err
		}, fmt.Sprintf(`SELECT id, happened_on, account_id, token_id, email, source, action, target, before_json, after_json FROM audit_log
			WHERE %s ORDER BY happened_on %s, id %s LIMIT %d OFFSET %d`, where, order, order, limit, offset), args...)
	})
	return list, total, err
}

// bounded is text, or its size where it is too long. Entries of older versions may be.
func bounded(text string) string {
	if len(text) <= auditTextMax {
		return text
	}
	return fmt.Sprintf(`{"omitted_bytes":%d}`, len(text))
}

// something is "" for JSON's null, which a list or document that is not there was written as.
func something(text string) string {
	if text == "null" {
		return ""
	}
	return text
}

// auditConditions is a filter in SQL. Its parts are compared as beginnings: LIKE would
// take a script's underscore for any character.
func auditConditions(accountID string, f control.AuditFilter) (where string, args []any) {
	var list []string
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		list = append(list, condition)
	}
	equals := func(column, value string) {
		if value != "" {
			add(column+" = ?", value)
		}
	}
	begins := func(column, value, border string) {
		if value != "" {
			add(fmt.Sprintf("(%s = ? OR SUBSTR(%s, 1, %d) = ?)", column, column, utf8.RuneCountInString(value+border)), value, value+border)
		}
	}
	if f.NoAccount {
		add("account_id IN (?, '')", accountID)
	} else {
		add("account_id = ?", accountID)
	}
	equals("id", f.ID)
	equals("token_id", f.ActorID)
	equals("email", f.ActorEmail)
	begins("action", f.Action, ".")
	begins("target", f.Target, "/")
	if f.System != nil {
		add(map[bool]string{true: "source = ?", false: "source <> ?"}[*f.System], sourceSystem)
	}
	if !f.Since.IsZero() {
		add("happened_on >= ?", f.Since.UnixMicro())
	}
	if !f.Before.IsZero() {
		add("happened_on < ?", f.Before.UnixMicro())
	}
	return strings.Join(list, " AND "), args
}
