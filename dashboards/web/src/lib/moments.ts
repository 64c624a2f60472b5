// Times of <input type="datetime-local">, in the zone that the reader chose.
import { formatTime, zone, type Zone } from "./time";

/** What such an input shows for a time: its minute, because that is the step of the input; "" for what is no time. */
export function toInput(at: Date | string, z: Zone = zone.value): string {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  return formatTime(time, z).slice(0, "2026-01-31 12:00".length).replace(" ", "T");
}

/** The time of such an input in RFC 3339; "" for none. */
export function fromInput(text: string, z: Zone = zone.value): string {
  const at = new Date(z === "UTC" && text !== "" ? `${text}Z` : text);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString().replace(".000Z", "Z");
}
