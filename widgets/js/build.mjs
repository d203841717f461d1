// Builds what the Python package serves. For notebooks: loader.js (copied into every figure's state,
// so it is tiny) and runtime.js (everything else, sent once per page), with the chart theme that
// Python shares. For books: the folder page (what a page with figures loads, and what computes there)
// and the folder widgets (what carries other ipywidgets).
import { build } from "esbuild";
import { copyFile, mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const final = here("../pplwidgets/static");
const out = here("../pplwidgets/static.new");
const packages = here("node_modules");

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: here("."),
  loader: { ".css": "text" },
};
const bundles = {
  "src/loader.ts": "loader.js",
  "src/runtime.ts": "runtime.js",
  "src/book.ts": "page/book.js",
  "src/page.ts": "page/page.js",
  "src/worker.ts": "page/worker.js",
};

await rm(out, { recursive: true, force: true });
for (const folder of ["page", "widgets"]) await mkdir(`${out}/${folder}`, { recursive: true });
await Promise.all([
  ...Object.entries(bundles).map(([source, name]) =>
    build({ ...common, entryPoints: [source], outfile: `${out}/${name}` }),
  ),
  copyFile(here("src/theme.json"), `${out}/theme.json`),
  wasm(),
  otherWidgets(),
]);
// At once, so that nobody meets half a build.
await rm(final, { recursive: true, force: true });
await rename(out, final);

/** Packed here, so that it travels small from hosts that pack nothing. */
async function wasm() {
  const code = await readFile(`${packages}/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm`);
  await writeFile(`${out}/page/ort.wasm.gz`, gzipSync(code, { level: 9 }));
}

async function otherWidgets() {
  const manager = `${packages}/@jupyter-widgets/html-manager/dist`;
  const fonts = (await readdir(manager)).filter((name) => /\.woff2?$/.test(name));
  const names = ["embed-amd.js", ...fonts];
  await Promise.all(names.map((name) => copyFile(`${manager}/${name}`, `${out}/widgets/${name}`)));
  const require = await readFile(`${packages}/requirejs/require.js`, "utf8");
  const { transform } = await import("esbuild");
  const small = await transform(require, { minify: true, legalComments: "none" });
  await writeFile(`${out}/widgets/require.js`, small.code);
}
