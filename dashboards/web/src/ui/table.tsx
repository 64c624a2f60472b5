// A table of rows, in a box of its own that scrolls sideways where there is no room.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export interface Column<Row> {
  name: string;
  cell: (row: Row) => ComponentChildren;
  /** Numbers stand at the end of their cell. */
  number?: boolean;
  /** The cell names its row. */
  heading?: boolean;
  /** The name is for screen readers only, as for a column of buttons. */
  quiet?: boolean;
}

export function Table<Row>(props: { caption: string; columns: Column<Row>[]; rows: Row[]; rowKey: (row: Row) => string }) {
  const caption = useId();
  const kind = (column: Column<Row>): string | undefined => (column.number ? "number" : undefined);
  return (
    // Focusable, so that the keyboard can scroll it.
    <div class="table-box" role="region" aria-labelledby={caption} tabIndex={0}>
      <table>
        <caption class="visually-hidden" id={caption}>{props.caption}</caption>
        <thead>
          <tr>{props.columns.map((c) => <th key={c.name} scope="col" class={kind(c)}>{c.quiet ? <span class="visually-hidden">{c.name}</span> : c.name}</th>)}</tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.rowKey(row)}>
              {props.columns.map((c) => c.heading
                ? <th key={c.name} scope="row" class={kind(c)}>{c.cell(row)}</th>
                : <td key={c.name} class={kind(c)}>{c.cell(row)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
