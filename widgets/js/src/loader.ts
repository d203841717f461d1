// Copied into the state of every figure, so it stays tiny: it fetches the runtime from the kernel,
// once per page and version, and hands over.
import type { Model } from "./protocol";
import type { mount } from "./runtime";

interface Runtime {
  mount: typeof mount;
}

const BUSY_AFTER = 4_000; // ms until a reader is told what the figure waits for
const AGAIN_AFTER = 15_000; // ms until the kernel is asked again
const BUSY =
  "This figure waits for its kernel, which is busy or gone. It draws as soon as the kernel answers.";
const KEY = Symbol.for("pplwidgets.runtimes");

/** A runtime that is on its way to this page, or here. */
interface Coming {
  ready: Promise<Runtime>;
  arrive(data: DataView): void;
}

const page = globalThis as unknown as Record<symbol, Map<string, Coming>>;
const runtimes = (page[KEY] ??= new Map());

function coming(hash: string): Coming {
  let known = runtimes.get(hash);
  if (!known) {
    let arrive!: (data: DataView) => void;
    const ready = new Promise<DataView>((resolve) => (arrive = resolve)).then(load);
    runtimes.set(hash, (known = { ready, arrive }));
    ready.catch(() => runtimes.delete(hash));
  }
  return known;
}

/**
 * The runtime; the first figure of a page asks its kernel at once, the others when that took too
 * long.
 */
async function runtime(model: Model, signal?: AbortSignal): Promise<Runtime> {
  const hash = model.get("_runtime") as string;
  const first = !runtimes.has(hash);
  const { ready, arrive } = coming(hash);
  const hear = (content: { kind?: string; hash?: string }, buffers: DataView[]) => {
    if (content?.kind === "runtime" && content.hash === hash) arrive(buffers[0]!);
  };
  const ask = () => model.send({ kind: "runtime" });
  model.on("msg:custom", hear);
  if (first) ask();
  const again = setInterval(ask, AGAIN_AFTER);
  const stop = () => {
    clearInterval(again);
    model.off("msg:custom", hear);
  };
  signal?.addEventListener("abort", stop);
  return ready.finally(stop);
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

async function render({
  model,
  el,
  signal,
}: {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
}) {
  const waiting = document.createElement("p");
  waiting.setAttribute("role", "status");
  waiting.textContent = "Loading the figure …";
  el.append(waiting);
  const late = setTimeout(() => (waiting.textContent = BUSY), BUSY_AFTER);
  try {
    const { mount } = await runtime(model, signal);
    if (signal?.aborted) return;
    waiting.remove();
    return mount(model, el);
  } catch (fault) {
    waiting.textContent = `This figure cannot be drawn here: ${fault instanceof Error ? fault.message : String(fault)}`;
    return;
  } finally {
    clearTimeout(late);
  }
}

export default { render };
