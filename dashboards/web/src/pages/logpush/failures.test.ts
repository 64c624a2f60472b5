import { expect, test } from "vitest";
import { groupFailures } from "./failures";

const at = (minute: number): string => `2026-11-28T12:${String(minute).padStart(2, "0")}:00.000000Z`;
const refused = (batch: string, of = 8): string => `1 of ${of} records of batch ${batch} were refused (400 no) and are dead letters`;

test("failures that differ in their batch are one, with the newest message and one advice", () => {
  const hundred = Array.from({ length: 98 }, (_, i) => ({ partition: null, first_on: at(59 - (i % 60)), last_on: at(59), times: 2, message: refused(`7-${i % 3}-${9000 - i}`, 8 + i) }));
  const away = { partition: 2, first_on: at(1), last_on: at(2), times: 40, message: "upload 20261128T120000Z_20261128T120001Z_13f94ff0.log.gz: 503 no" };
  const other = { ...away, partition: 0, first_on: at(0), times: 2, message: "upload 20261128T110000Z_20261128T110001Z_aaaa4ff0.log.gz: 503 no" };
  const groups = groupFailures([...hundred, away, other]);
  expect(groups).toMatchObject([
    { message: refused("7-0-9000"), firstOn: at(0), lastOn: at(59), times: 196, partitions: [null] },
    { times: 42, partitions: [0, 2], firstOn: at(0), lastOn: at(2) },
  ]);
  expect(groups.map((g) => g.advice !== undefined)).toEqual([true, true]);
});

test("failures that say something else stay apart, and give an advice once", () => {
  const messages = [refused("7-0-12"), refused("7-0-13").replace("400 no", "400 too long"), "lost 3 records of partition 1, offsets 5 to 7: the topic's retention removed them", "lost 2 records of partition 1, offsets 9 to 10: the topic's retention removed them"];
  const groups = groupFailures(messages.map((message, i) => ({ partition: null, first_on: at(9 - i), last_on: at(9 - i), times: 1, message })));
  expect(groups.map((g) => g.message)).toEqual(messages);
  expect(groups.map((g) => g.advice !== undefined)).toEqual([true, false, true, false]);
});

test("replays and parts of a batch have ids of their own", () => {
  const groups = groupFailures([refused("7-r3-0-12"), refused("7-0-12-13f94ff0"), refused("7-0-1")].map((message) => ({ partition: null, first_on: at(1), last_on: at(1), times: 1, message })));
  expect(groups).toHaveLength(1);
});
