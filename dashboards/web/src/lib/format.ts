// Numbers as people read them. What is not known is a dash, never a zero.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const unknown = "–";

export function formatCount(n: number | undefined | null): string {
  return n === undefined || n === null ? unknown : whole.format(n);
}

/** 1234567 as "1.23M". */
export function formatCompact(n: number | undefined | null): string {
  return n === undefined || n === null ? unknown : compact.format(n);
}

/** A share of 0 to 1 as "0.52 %": two significant digits where it is small, so that a small rate is not shown as none, and of what is missing where hardly anything is. */
export function formatRate(share: number | undefined | null): string {
  if (share === undefined || share === null || !Number.isFinite(share)) return unknown;
  const percent = share * 100;
  if (percent === 0 || percent === 100) return `${percent} %`;
  const missing = 100 - percent;
  if (missing > 0 && missing < 0.1) return `${Number(percent.toFixed(Math.min(12, 1 - Math.floor(Math.log10(missing)))))} %`;
  if (Math.abs(percent) >= 10) return `${percent.toFixed(1)} %`;
  return `${Number(percent.toPrecision(2))} %`;
}

/** Milliseconds as "0.42 ms", "12 ms", "1.3 s". */
export function formatMillis(ms: number | undefined | null): string {
  if (ms === undefined || ms === null || !Number.isFinite(ms)) return unknown;
  if (ms >= 1000) return `${Number((ms / 1000).toPrecision(3))} s`;
  return `${Number(ms.toPrecision(ms < 10 ? 2 : 3))} ms`;
}

/** Bytes in powers of 1024: "1.4 MiB". */
export function formatBytes(n: number | undefined | null): string {
  if (n === undefined || n === null) return unknown;
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  let size = n;
  while (size >= 1024 && i < names.length - 1) {
    size /= 1024;
    i++;
  }
  return `${i === 0 ? size : Number(size.toPrecision(3))} ${names[i]}`;
}

/** The first eight hex digits of a version's id, as wrangler shows it. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

/** A sentence with a capital at its beginning, unless that is a name, as "max_p99_wall_ms" or "v2". */
export function capital(text: string): string {
  return /^[a-z]+([\s,:;]|$)/.test(text) ? text.slice(0, 1).toUpperCase() + text.slice(1) : text;
}
