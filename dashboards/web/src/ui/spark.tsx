// A line of a few points without axes, for tables.

/** Points of a path in a box of 100 by 24; `undefined` is a gap. */
export function sparkPath(values: readonly (number | undefined)[], max: number): string {
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  let pen = false;
  return values.map((v, i) => {
    if (v === undefined) {
      pen = false;
      return "";
    }
    const y = max > 0 ? 23 - (22 * v) / max : 23;
    const command = pen ? "L" : "M";
    pen = true;
    return `${command}${(i * step).toFixed(1)} ${y.toFixed(1)}`;
  }).join("");
}

/** `label` says in words what the line shows. */
export function Sparkline(props: { values: (number | undefined)[]; label: string; bad?: (number | undefined)[] }) {
  const max = Math.max(0, ...props.values.map((v) => v ?? 0));
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={props.label}>
      <path d={sparkPath(props.values, max)} />
      {props.bad && <path class="bad" d={sparkPath(props.bad, max)} />}
    </svg>
  );
}
