import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";
import vue from "@vitejs/plugin-vue";
import { defineConfig, type Plugin } from "vite";
import vuetify from "vite-plugin-vuetify";

const out = new URL("../src/cloister/web/ui/", import.meta.url).pathname;

/** Compresses each file once, at build time: Caddy sends it as it is. */
function precompress(): Plugin {
  return {
    name: "precompress",
    closeBundle() {
      for (const name of readdirSync(`${out}assets`)) {
        if (!/\.(js|css|svg)$/.test(name)) continue;
        const content = readFileSync(`${out}assets/${name}`);
        writeFileSync(`${out}assets/${name}.gz`, gzipSync(content, { level: 9 }));
        writeFileSync(`${out}assets/${name}.br`, brotliCompressSync(content));
      }
    },
  };
}

export default defineConfig({
  plugins: [vue(), vuetify({ autoImport: true }), precompress()],
  define: { __VUE_OPTIONS_API__: false, __VUE_I18N_LEGACY_API__: false, __INTLIFY_DROP_MESSAGE_COMPILER__: false },
  build: { outDir: out, emptyOutDir: true, sourcemap: false, chunkSizeWarningLimit: 4000, assetsInlineLimit: 0 },
  server: { proxy: { "/api": { target: process.env.CLOISTER_URL ?? "http://localhost:8080", ws: true } } },
  test: { environment: "happy-dom", server: { deps: { inline: ["vuetify"] } } },
} as Parameters<typeof defineConfig>[0]);
