import { expect, test } from "vitest";
import { fromInput, toInput } from "./moments";

test("times of inputs are in the zone that is chosen", () => {
  expect(fromInput("2026-03-01T12:00", "UTC")).toBe("2026-03-01T12:00:00Z");
  expect(fromInput("2026-12-24T18:30", "local")).toBe(new Date(2026, 11, 24, 18, 30).toISOString().replace(".000Z", "Z"));
  expect(toInput("2026-12-24T10:00:00+01:00", "UTC")).toBe("2026-12-24T09:00");
  for (const zone of ["UTC", "local"] as const) expect(fromInput(toInput(new Date("2026-07-01T12:34:56Z"), zone), zone)).toBe("2026-07-01T12:34:00Z");
});

test("what is no time is none", () => {
  expect(fromInput("", "UTC")).toBe("");
  expect(fromInput("soon", "local")).toBe("");
  expect(toInput("soon", "UTC")).toBe("");
});
