// Copied into the state of every figure, so it stays tiny: it fetches the runtime from the kernel, once per page
// and version, and hands over.
import type { Model } from "./protocol";
import type { mount } from "./runtime";

interface Runtime {
  mount: typeof mount;
}

const PATIENCE = 20_000; // ms until a kernel that does not send the runtime is called silent
const KEY = Symbol.for("pplwidgets.runtimes");
const page = globalThis as unknown as Record<symbol, Map<string, Promise<Runtime>>>;
const runtimes = (page[KEY] ??= new Map());

function runtime(model: Model): Promise<Runtime> {
  const hash = model.get("_runtime") as string;
  let known = runtimes.get(hash);
  if (!known) {
    known = fetchFrom(model, hash);
    runtimes.set(hash, known);
    // The next figure may have better luck, perhaps with another kernel.
    known.catch(() => runtimes.delete(hash));
  }
  return known;
}

function fetchFrom(model: Model, hash: string): Promise<Runtime> {
  return new Promise((resolve, reject) => {
    const hear = (content: { kind?: string; hash?: string }, buffers: DataView[]) => {
      if (content?.kind !== "runtime" || content.hash !== hash) return;
      stop();
      load(buffers[0]!).then(resolve, reject);
    };
    const late = setTimeout(() => {
      stop();
      reject(new Error("the kernel did not send what draws the figure"));
    }, PATIENCE);
    const stop = () => {
      clearTimeout(late);
      model.off("msg:custom", hear);
    };
    model.on("msg:custom", hear);
    model.send({ kind: "runtime" });
  });
}

async function load(data: DataView): Promise<Runtime> {
  const packed = new Blob([data as DataView<ArrayBuffer>]);
  const code = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(code).blob();
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return (await import(/* @vite-ignore */ url)) as Runtime;
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function render({ model, el, signal }: { model: Model; el: HTMLElement; signal?: AbortSignal }) {
  const waiting = document.createElement("p");
  waiting.textContent = "Loading the figure …";
  el.append(waiting);
  try {
    const { mount } = await runtime(model);
    if (signal?.aborted) return;
    waiting.remove();
    return mount(model, el);
  } catch (fault) {
    const why = fault instanceof Error ? fault.message : String(fault);
    waiting.textContent = `This figure needs its kernel to draw (${why}): run its cell again.`;
    return;
  }
}

export default { render };
