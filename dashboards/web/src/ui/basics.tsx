// Small parts that every page uses.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import { copyText } from "../lib/copy";
import { formatAge, formatTime, now, zone, zoneName } from "../lib/time";
import { capital, shortId } from "../lib/format";

export type Tone = "good" | "warn" | "bad" | "accent";

type ButtonProps = Omit<JSX.IntrinsicElements["button"], "type" | "class"> & {
  look?: "primary" | "danger" | "plain" | undefined;
  compact?: boolean | undefined;
  submit?: boolean | undefined;
  busy?: boolean | undefined;
};

/** One that cannot be pressed now keeps the keyboard's focus, which a browser takes from what is `disabled`. */
export function Button({ look, compact, submit, busy, disabled, onClick, children, ...rest }: ButtonProps) {
  const classes = ["button", look, compact ? "compact" : undefined].filter(Boolean).join(" ");
  const off = disabled || busy;
  return (
    <button {...rest} type={submit ? "submit" : "button"} class={classes} aria-disabled={off ? true : undefined} aria-busy={busy || undefined}
      onClick={off ? (e) => e.preventDefault() : onClick}>
      {children}
    </button>
  );
}

export function LinkButton(props: { href: string; look?: "primary" | "plain"; compact?: boolean; children: ComponentChildren }) {
  const classes = ["button", props.look, props.compact ? "compact" : undefined].filter(Boolean).join(" ");
  return <a class={classes} href={props.href}>{props.children}</a>;
}

export function Badge(props: { tone?: Tone | undefined; children: ComponentChildren }) {
  return <span class={`badge ${props.tone ?? ""}`}>{props.children}</span>;
}

export function Note(props: { tone?: Tone; children: ComponentChildren; live?: boolean }) {
  return <div class={`note ${props.tone ?? ""}`} role={props.live ? "status" : undefined}>{props.children}</div>;
}

export function Loading(props: { what?: string }) {
  return <p class="loading" role="status">Loading{props.what ? ` ${props.what}` : ""} …</p>;
}

/** Says that there is nothing yet, and what the next step is. */
export function Empty(props: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><h2>{props.title}</h2>{props.children}</div>;
}

/** An error in the server's own sentences, with a way to try again. Shows nothing for no error. `older`: an earlier answer is still shown. */
export function Problem(props: { error: unknown; what?: string; older?: boolean; retry?: () => void }) {
  const { error } = props;
  if (error === undefined || error === null) return null;
  const messages = error instanceof ApiError ? error.messages.map((m) => m.message) : [error instanceof Error ? error.message : String(error)];
  return (
    <div class="note bad" role="alert">
      {props.what && <p><strong>{props.what}</strong></p>}
      {messages.map((m) => <p key={m}>{capital(m)}</p>)}
      {props.older && <p>What is shown of it is from before.</p>}
      {error instanceof ApiError && error.status === 403 && <p>Sign in with a token that may do this, or ask an administrator for one.</p>}
      {error instanceof ApiError && error.status >= 500 && error.requestId && <p class="small">Request <code>{error.requestId}</code> is in the server’s log.</p>}
      {props.retry && <p><Button compact onClick={props.retry}>Try again</Button></p>}
    </div>
  );
}

/** A moment: its age, or its time in the chosen zone; both are in its tooltip. `named` has the zone beside it. */
export function Time(props: { at: string | Date | undefined; absolute?: boolean; named?: boolean }) {
  if (props.at === undefined) return <span>–</span>;
  const at = typeof props.at === "string" ? new Date(props.at) : props.at;
  if (Number.isNaN(at.getTime())) return <span>–</span>;
  const full = `${formatTime(at, zone.value)} ${zoneName()}`;
  const age = formatAge(at, now.value);
  return <time class="nowrap" dateTime={at.toISOString()} title={`${full}, ${age}`}>{props.named ? full : props.absolute ? formatTime(at, zone.value) : age}</time>;
}

/** A version as people know it: its tag, or the first digits of its id; `series` is its colour in charts, from 0. */
export function VersionName(props: { id: string; tag?: string | undefined; series?: number | undefined; href?: string | undefined }) {
  const name = props.tag ? <>{props.tag} <code class="quiet">{shortId(props.id)}</code></> : <code>{shortId(props.id)}</code>;
  return (
    <span class="version" title={props.id}>
      {props.series !== undefined && <span class={`swatch series-${(props.series % 8) + 1}`} aria-hidden="true" />}
      {props.href ? <a href={props.href}>{name}</a> : <span>{name}</span>}
    </span>
  );
}

export function Copy(props: { text: string; what: string; label?: string }) {
  const [done, setDone] = useState(false);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async (button: Element): Promise<void> => {
    try {
      await copyText(props.text, button);
      setDone(true);
    } catch {
      setFailed(true); // the text is there to be selected
    }
  };
  return (
    <Button compact onClick={(e) => void copy(e.currentTarget)} aria-label={done || failed ? undefined : `Copy ${props.what}`}>
      <span aria-live="polite">{done ? "Copied" : failed ? "Select it to copy" : props.label ?? "Copy"}</span>
    </Button>
  );
}

/** One choice of a few, side by side. */
export function Segments<T extends string>(props: { label: string; options: readonly (readonly [T, string])[]; value: T | undefined; onChange: (value: T) => void }) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChange(value)}>{text}</button>
      ))}
    </div>
  );
}

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  error?: string | undefined;
  /** Gets the ids that tie the control to its label and texts. */
  children: (control: { id: string; "aria-describedby": string | undefined; "aria-invalid": "true" | undefined }) => ComponentChildren;
}

export function Field(props: FieldProps) {
  const id = useId();
  const described = [props.hint ? `${id}-hint` : "", props.error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children({ id, "aria-describedby": described || undefined, "aria-invalid": props.error ? "true" : undefined })}
      {props.hint && <span class="hint" id={`${id}-hint`}>{props.hint}</span>}
      {props.error && <span class="wrong" id={`${id}-error`}>{props.error}</span>}
    </div>
  );
}

interface TextProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  hint?: ComponentChildren;
  error?: string | undefined;
  type?: "text" | "url" | "password" | "number" | "search" | "datetime-local";
  placeholder?: string;
  required?: boolean;
  rows?: number;
  mono?: boolean;
  autoFocus?: boolean;
  autoComplete?: string;
}

export function TextField({ label, value, onInput, hint, error, rows, mono, type = "text", autoComplete = "off", ...rest }: TextProps) {
  const classes = mono ? "input mono" : "input";
  // Preact's types have one shape for each type of input; all of these take the same attributes.
  const kind = { type } as { type: "text" };
  return (
    <Field label={label} hint={hint} error={error}>
      {(control) => rows
        ? <textarea {...control} {...rest} class={classes} rows={rows} value={value} onInput={(e) => onInput(e.currentTarget.value)} />
        : <input {...control} {...rest} {...kind} class={classes} value={value} autoComplete={autoComplete} spellcheck={false} onInput={(e) => onInput(e.currentTarget.value)} />}
    </Field>
  );
}

export function SelectField(props: { label: string; value: string; options: readonly (readonly [string, string])[]; onChange: (value: string) => void; hint?: ComponentChildren; error?: string | undefined }) {
  return (
    <Field label={props.label} hint={props.hint} error={props.error}>
      {(control) => (
        <select {...control} class="input" value={props.value} onChange={(e) => props.onChange(e.currentTarget.value)}>
          {props.options.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
        </select>
      )}
    </Field>
  );
}

export function CheckField(props: { label: ComponentChildren; checked: boolean; onChange: (checked: boolean) => void; disabled?: boolean }) {
  return (
    <label class="check">
      <input type="checkbox" checked={props.checked} disabled={props.disabled ?? false} onChange={(e) => props.onChange(e.currentTarget.checked)} />
      <span>{props.label}</span>
    </label>
  );
}

/** A modal dialog, open as long as it is rendered. Escape and the backdrop close it, unless it is `busy`; without `onClose` only what is in it does. */
export function Dialog(props: { title: string; onClose: (() => void) | undefined; busy?: boolean | undefined; wide?: boolean; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  const pressed = useRef(false); // on the backdrop; a click is there also where a selection of text ends
  const title = useId();
  // Closed before it is removed, or the browser does not give the focus back.
  useLayoutEffect(() => {
    const dialog = element.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const close = (): void => {
    if (!props.busy) props.onClose?.();
  };
  // Browsers let nobody prevent the second Escape in a row: whether the dialog goes is for its owner to say.
  const closed = (): void => {
    if (!element.current || element.current.open) return; // its owner took it away
    element.current.showModal();
    close();
  };
  return (
    <dialog ref={element} class={props.wide ? "wide" : undefined} aria-labelledby={title}
      onCancel={(e) => { e.preventDefault(); close(); }} onClose={closed}
      onPointerDown={(e) => { pressed.current = e.target === element.current; }}
      onClick={(e) => { if (pressed.current && e.target === element.current) close(); }}>
      <div class="stack">
        <h2 id={title}>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  );
}

/** Asks before something that matters: says what will happen, and names the button after it. */
export function Confirm(props: { title: string; children: ComponentChildren; action: string; danger?: boolean; busy?: boolean; error?: unknown; onConfirm: () => void; onClose: () => void }) {
  return (
    <Dialog title={props.title} busy={props.busy} onClose={props.onClose}>
      {props.children}
      <Problem error={props.error} />
      <div class="actions">
        <Button disabled={props.busy} onClick={props.onClose}>Cancel</Button>
        <Button look={props.danger ? "danger" : "primary"} busy={props.busy} onClick={props.onConfirm}>{props.action}</Button>
      </div>
    </Dialog>
  );
}
