// Chooses a range of time; what it chose is in the page's address.
import { formatTime, zoneName } from "../lib/time";
import type { RangeState } from "../lib/range";
import { Button, Segments } from "./basics";

const choices = [["300", "5 min"], ["900", "15 min"], ["3600", "1 h"], ["21600", "6 h"], ["86400", "1 d"], ["604800", "7 d"], ["2592000", "30 d"]] as const;

export function RangePicker(props: { range: RangeState }) {
  const { since, until, last } = props.range.resolve();
  return (
    <div class="row">
      <Segments label="Time range" options={choices} value={last === undefined ? undefined : (String(last) as (typeof choices)[number][0])} onChange={(v) => props.range.follow(Number(v))} />
      {last === undefined && (
        <>
          <span class="small">{formatTime(since)} to {formatTime(until)} {zoneName()}</span>
          <Button compact onClick={() => props.range.follow(3600)}>Back to live</Button>
        </>
      )}
    </div>
  );
}
