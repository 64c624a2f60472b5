// Short confirmations of what a click did. Errors are never said here: they stay
// where they happened, until they are dealt with.
import { signal } from "@preact/signals";

const toasts = signal<{ id: number; text: string }[]>([]);
let next = 0;

export function toast(text: string): void {
  const id = next++;
  toasts.value = [...toasts.value, { id, text }];
  setTimeout(() => {
    toasts.value = toasts.value.filter((t) => t.id !== id);
  }, 6000);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((t) => <div key={t.id} class="toast">{t.text}</div>)}
    </div>
  );
}
