// How fast charts are, in the browser's own figures. It measures and asserts nothing: see
// docs/benchmarks.md. "go run ./test/dashboard -speed" makes the busy script.
import type { CDPSession, Page } from "@playwright/test";
import { account, expect, test } from "../world";

const rounds = Number(process.env["ROUNDS"] ?? 20);
const charts = 7;

declare global {
  interface Window { drawn?: number; frames?: number[]; longTasks?: number[] }
}

/** Notes when the last chart is on the screen: two frames after its canvas is there. */
function watch(many: number): void {
  const look = (): void => {
    if (document.querySelectorAll(".chart canvas").length >= many) requestAnimationFrame(() => requestAnimationFrame(() => { window.drawn = performance.now(); }));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/** Milliseconds from a page's beginning to its charts, and of these from the answer on that they show. */
async function shown(page: Page): Promise<{ all: number; render: number }> {
  await page.waitForFunction(() => window.drawn !== undefined);
  return page.evaluate(() => {
    const answers = (performance.getEntriesByType("resource") as PerformanceResourceTiming[]).filter((r) => new URL(r.name).pathname.endsWith("/metrics"));
    return { all: window.drawn!, render: window.drawn! - answers[0]!.responseEnd };
  });
}

function quantile(values: number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))]!;
}

async function busySeconds(cdp: CDPSession): Promise<{ task: number; script: number }> {
  const { metrics } = await cdp.send("Performance.getMetrics");
  const of = (name: string): number => metrics.find((m) => m.name === name)!.value;
  return { task: of("TaskDuration"), script: of("ScriptDuration") };
}

/** Frames and long tasks of some seconds. */
async function frames(page: Page, what: string, seconds: number): Promise<void> {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const before = await busySeconds(cdp);
  await page.evaluate(() => {
    const list: number[] = (window.frames = []);
    const long: number[] = (window.longTasks = []);
    new PerformanceObserver((l) => l.getEntries().forEach((e) => long.push(e.duration))).observe({ type: "longtask" });
    const next = (at: number): void => { list.push(at); requestAnimationFrame(next); };
    requestAnimationFrame(next);
  });
  await page.waitForTimeout(seconds * 1000);
  const after = await busySeconds(cdp);
  const { times, long } = await page.evaluate(() => ({ times: [...window.frames!], long: [...window.longTasks!] }));
  const gaps = times.slice(1).map((t, i) => t - times[i]!);
  const late = gaps.filter((g) => g > 25).length;
  console.log(`${what}: ${(gaps.length / seconds).toFixed(1)} frames/s, ${((late / gaps.length) * 100).toFixed(1)} % late, p99 ${quantile(gaps, 0.99).toFixed(1)} ms; ` +
    `main thread busy ${(((after.task - before.task) / seconds) * 100).toFixed(1)} %, of that script ${(((after.script - before.script) / seconds) * 100).toFixed(1)} %; ` +
    `${long.length} long tasks${long.length > 0 ? `, the longest ${Math.max(...long).toFixed(0)} ms` : ""}`);
}

test("an hour of a busy script @speed", async ({ signedIn: page }) => {
  test.setTimeout(600_000);
  await page.addInitScript(watch, charts);
  const address = `/${account}/workers/busy/compare`;
  // Processor time of the page's main thread, which neighbours do not stretch as they do the clock.
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
  const worked: number[] = [];
  const renders: number[] = [];
  const loads: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const before = await busySeconds(cdp);
    await page.goto(address);
    const { all, render } = await shown(page);
    worked.push(((await busySeconds(cdp)).task - before.task) * 1000);
    renders.push(render);
    loads.push(all);
  }
  console.log(`hour of four versions, ${charts} charts: from the answer to the screen p50 ${quantile(renders, 0.5).toFixed(0)} ms, p95 ${quantile(renders, 0.95).toFixed(0)} ms; ` +
    `from the address to the screen p50 ${quantile(loads, 0.5).toFixed(0)} ms, p95 ${quantile(loads, 0.95).toFixed(0)} ms, of which the main thread works p50 ${quantile(worked, 0.5).toFixed(0)} ms`);
  await cdp.detach();
  await frames(page, "charts while live", 30);

  const canvas = await page.locator(".chart canvas").first().elementHandle();
  const box = (await page.locator(".chart-plot").first().boundingBox())!;
  const moving = (async () => {
    for (let i = 0; i < 200; i++) await page.mouse.move(box.x + 80 + (i * 37) % (box.width - 100), box.y + 80);
  })();
  await frames(page, "charts while live, under a moving pointer", 10);
  await moving;
  // The same elements still: live data is drawn into charts that were made once.
  expect(await canvas!.evaluate((c) => c.isConnected)).toBe(true);
});

test("a live tail @speed", async ({ signedIn: page }) => {
  await page.goto(`/${account}/workers/shop/live`);
  await expect(page.locator(".live-box")).toBeVisible();
  await frames(page, "live tail", 20);
});
