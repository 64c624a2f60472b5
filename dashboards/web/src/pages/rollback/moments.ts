// Moments as fields of the type datetime-local have them, in the zone that the reader chose.
import { formatTime, type Zone } from "../../lib/time";

/** "2026-12-24T10:00" for a time in RFC 3339; what is no time stays as it is. */
export function inputOfMoment(at: string, z: Zone): string {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return at;
  return formatTime(time, z).replace(" ", "T").replace(/:00$/, "");
}

/** The opposite. What is no time stays as it is, for the API to refuse. */
export function momentOfInput(text: string, z: Zone): string {
  const time = new Date(z === "UTC" ? `${text}Z` : text);
  return Number.isNaN(time.getTime()) ? text : time.toISOString().replace(".000Z", "Z");
}
