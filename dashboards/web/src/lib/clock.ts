// The server's clock, by the Date of its answers. What it tells of the past and the present is
// held against that: a browser's own clock may be wrong by any amount.

/** Milliseconds by which the server's clock is ahead of the browser's. */
let ahead = 0;

/**
 * Takes over what an answer says of the time, which is cut to whole seconds: it was made between
 * `asked` and `answered`, in milliseconds by the browser's clock. As long as that fits a clock
 * that agrees, it does, so that the two seconds of doubt move nothing.
 */
export function hearClock(date: string | null, asked: number, answered: number): void {
  const at = Date.parse(date ?? "");
  if (Number.isNaN(at)) return;
  const least = at - answered;
  const most = at + 999 - asked;
  if (least <= ahead && ahead <= most) return;
  ahead = least <= 0 && 0 <= most ? 0 : (least + most) / 2;
}

/** Now, by the server's clock as far as it is known. */
export function serverNow(): Date {
  return new Date(Date.now() + ahead);
}
