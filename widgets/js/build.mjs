// Builds what the Python package serves: loader.js (copied into every figure's state, so it is tiny)
// and runtime.js (everything else, sent once per page), with the chart theme that Python shares.
import { build } from "esbuild";
import { copyFile, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("../pplwidgets/static");

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: here("."),
};

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await Promise.all([
  build({ ...common, entryPoints: ["src/loader.ts"], outfile: `${out}/loader.js` }),
  build({
    ...common,
    entryPoints: ["src/runtime.ts"],
    outfile: `${out}/runtime.js`,
    loader: { ".css": "text" },
  }),
  copyFile(here("src/theme.json"), `${out}/theme.json`),
]);
