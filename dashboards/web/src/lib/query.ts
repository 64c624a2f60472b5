// Data for a component: asked when it appears and when its key changes, again every
// so often while the page is looked at, and cancelled when nobody waits any more.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface Answer<T> {
  /** The newest answer; kept while a newer one is on its way, and when that fails. */
  data: T | undefined;
  /** Why the newest attempt failed; undefined once one succeeds. */
  error: unknown;
  loading: boolean;
  reload: () => void;
}

export interface QueryOptions {
  /** Milliseconds between two questions; left out: ask once. */
  every?: number | undefined;
  /** false: do not ask at all. */
  enabled?: boolean;
}

interface State<T> {
  key: string;
  data: T | undefined;
  error: unknown;
  loading: boolean;
}

/**
 * Milliseconds that an answer which is asked for again and again may take. The server bounds one question to ClickHouse by
 * half of them. Evidence may need many, and goes on behind those that were answered when it is asked for again.
 */
const patience = 30_000;

/**
 * Asks, and gives up after so many milliseconds. A server that is frozen, or behind a network that is cut, refuses
 * nothing: without this, what is shown would look like the newest for as long as the browser waits, which is minutes.
 */
export async function within<T>(ms: number, ask: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ms);
  try {
    return await ask(AbortSignal.any([signal, late.signal]));
  } catch (error) {
    if (!late.signal.aborted || signal.aborted) throw error;
    throw new Error(`The control plane has not answered for ${ms / 1000} seconds: does it run, and does the network lead there?`);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Calls `ask` for `key`, which must name everything that `ask` depends on. Answers of an
 * earlier key are never shown under a later one.
 */
export function useQuery<T>(key: string, ask: (signal: AbortSignal) => Promise<T>, options: QueryOptions = {}): Answer<T> {
  const { every, enabled = true } = options;
  const [state, setState] = useState<State<T>>({ key, data: undefined, error: undefined, loading: enabled });
  const [turn, setTurn] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  const waiting = useRef(state.loading);
  waiting.current = state.loading;

  useEffect(() => {
    if (!enabled) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async (): Promise<void> => {
      setState((s) => (s.key === key ? { ...s, loading: true } : { key, data: undefined, error: undefined, loading: true }));
      try {
        const data = await (every === undefined ? latest.current(abort.signal) : within(patience, latest.current, abort.signal));
        if (!abort.signal.aborted) setState({ key, data, error: undefined, loading: false });
      } catch (error) {
        if (!abort.signal.aborted) setState((s) => ({ ...s, key, error, loading: false }));
      }
      if (every !== undefined && !abort.signal.aborted) timer = setTimeout(again, every);
    };
    // A page in the background asks nothing; it catches up when it is looked at again.
    const again = (): void => {
      timer = undefined;
      if (document.visibilityState === "visible") void run();
    };
    const seen = (): void => {
      if (document.visibilityState === "visible" && timer === undefined && every !== undefined && !waiting.current) void run();
    };
    void run();
    document.addEventListener("visibilitychange", seen);
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [key, every, enabled, turn]);

  const shown = state.key === key ? state : { data: undefined, error: undefined, loading: enabled };
  return { data: shown.data, error: shown.error, loading: shown.loading, reload: () => setTurn((n) => n + 1) };
}

/** Tells, after a wait, whether the component is still there: nobody is to be routed from a page that they left. */
export function useMounted(): () => boolean {
  const mounted = useRef(true);
  useLayoutEffect(() => () => { mounted.current = false; }, []);
  return () => mounted.current;
}

export interface Action<A extends unknown[]> {
  run: (...args: A) => Promise<boolean>;
  busy: boolean;
  error: unknown;
  clear: () => void;
}

/** Something that a click does, once at a time. `run` resolves to whether it succeeded. */
export function useAction<A extends unknown[]>(act: (...args: A) => Promise<void>): Action<A> {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const running = useRef(false);
  const run = async (...args: A): Promise<boolean> => {
    if (running.current) return false;
    running.current = true;
    setBusy(true);
    setError(undefined);
    try {
      await act(...args);
      return true;
    } catch (e) {
      setError(e);
      return false;
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return { run, busy, error, clear: () => setError(undefined) };
}
