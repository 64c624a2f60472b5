import { expect, test } from "vitest";
import { affinityText, overrideCommand, previewUrl } from "./commands";

test("what is copied survives a shell", () => {
  expect(overrideCommand("http://shop.dev.localhost:8080/", "shop", "b234ec5f-9ee6-43b6-90d7-9ad67f97db8f"))
    .toBe(`curl -i -H 'Cloudflare-Workers-Version-Overrides: shop="b234ec5f-9ee6-43b6-90d7-9ad67f97db8f"' http://shop.dev.localhost:8080/`);
});

test("a version has a host where the gateway's address is known", () => {
  const hosts = { enabled: true, previews_enabled: true };
  expect(previewUrl(hosts, "b234ec5f-9ee6")).toBeUndefined();
  expect(previewUrl({ ...hosts, url: "https://shop.dev.example.com", preview_url_suffix: "-shop.dev.example.com" }, "b234ec5f-9ee6")).toBe("https://b234ec5f-shop.dev.example.com/");
});

test("affinity is told in the order in which keys are looked for", () => {
  expect(affinityText([])).toContain("no affinity rules");
  expect(affinityText([{ source: "cookie", name: "user" }, { source: "path", segment: 2 }, { source: "client_ip" }]))
    .toBe("The key is the header Cloudflare-Workers-Version-Key, else the cookie user, else segment 2 of the path, else the address of the client.");
});
