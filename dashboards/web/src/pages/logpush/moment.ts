// Times of <input type="datetime-local">, in the zone that the reader chose.
import { formatTime, zone, type Zone } from "../../lib/time";

/** What such an input shows for a time: its minute, because that is the step of the input. */
export function toInput(at: Date, z: Zone = zone.value): string {
  return formatTime(at, z).slice(0, "2026-01-31 12:00".length).replace(" ", "T");
}

/** The time of such an input in RFC 3339; "" for none. */
export function fromInput(text: string, z: Zone = zone.value): string {
  const at = new Date(z === "UTC" && text !== "" ? `${text}Z` : text);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString();
}
