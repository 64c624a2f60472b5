import { defineConfig } from "@playwright/test";
import { dashboard } from "./world";

// Flags: no sandbox, because CI runs as root in a container; nothing in the background that
// asks the internet, which would be refused there.
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export default defineConfig({
  testDir: "tests",
  outputDir: "results",
  // One after another: they share a platform, and two cores.
  workers: 1,
  fullyParallel: false,
  timeout: 180_000,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    baseURL: dashboard,
    viewport: { width: 1280, height: 800 },
    timezoneId: "Europe/Berlin",
    // A trace of every step doubles the time; ask for one with "-- --trace on".
    trace: "off",
    screenshot: "only-on-failure",
    launchOptions: { executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: flags },
  },
});
