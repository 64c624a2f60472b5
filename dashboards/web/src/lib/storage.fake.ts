// For tests: a Storage in memory, with room for so many characters in a value.
export function storageOf(room = Infinity): Storage {
  const items = new Map<string, string>();
  return {
    get length() { return items.size; },
    clear: () => items.clear(),
    key: (i) => [...items.keys()][i] ?? null,
    getItem: (k) => items.get(k) ?? null,
    removeItem: (k) => void items.delete(k),
    setItem: (k, v) => {
      if (v.length > room) throw new DOMException("full", "QuotaExceededError");
      items.set(k, v);
    },
  };
}
