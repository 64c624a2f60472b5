// When a new token ends.
import { fromInput } from "../../lib/moments";

export const lifetimes = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "1 year"], ["never", "Never"], ["date", "On a date …"]] as const;

export type Lifetime = (typeof lifetimes)[number][0];

/** The moment that a choice stands for; undefined is never. `date` is what an input of the type datetime-local holds. */
export function expiresOn(choice: Lifetime, date: string, now: Date): Date | undefined {
  if (choice === "never") return undefined;
  if (choice === "date") return new Date(fromInput(date));
  return new Date(now.getTime() + Number(choice) * 86_400_000);
}

/** Why the choice cannot be taken. */
export function wrongExpiry(choice: Lifetime, date: string, now: Date): string | undefined {
  if (choice !== "date") return undefined;
  const at = new Date(fromInput(date));
  if (Number.isNaN(at.getTime())) return "Choose a date and a time.";
  return at <= now ? "That has passed." : undefined;
}
