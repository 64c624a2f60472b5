import { defineConfig } from "vite";

// Everything ends in files of their own: the pages are served under a policy that
// allows no inline code, style or data address.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2023",
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    // `npm run dev` beside a running control plane.
    proxy: { "/client": "http://127.0.0.1:8787", "/session": "http://127.0.0.1:8787" },
  },
});
