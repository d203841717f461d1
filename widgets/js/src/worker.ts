// Evaluates captured graphs off the page's own thread, one after the other.
import * as ort from "onnxruntime-web/wasm";
import { numbers } from "./noise";
import { fetched } from "./published";

export interface Feed {
  name: string;
  dtype: string;
  dims: number[];
  value?: number;
  draw?: number;
  distribution?: string;
}

/** `wasm` and `model` are addresses. */
export type Ask =
  | { id: number; kind: "start"; wasm: string }
  | { id: number; kind: "load"; model: string }
  | { id: number; kind: "run"; model: string; seed: number; feeds: Feed[]; outputs: string[] };

export interface Reply {
  id: number;
  failed?: string;
  columns?: (Float32Array | Float64Array)[];
}

const MODELS = 12; // that are kept ready
const NOISE = 4_000_000; // numbers that are kept

const sessions = new Map<string, Promise<ort.InferenceSession>>();
const noises = new Map<string, Float32Array | Float64Array>();
let kept = 0;

async function start(wasm: string): Promise<void> {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await fetched(wasm);
  ort.env.logLevel = "error";
}

function session(model: string): Promise<ort.InferenceSession> {
  let known = sessions.get(model);
  sessions.delete(model);
  known ??= fetched(model).then((bytes) =>
    ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 }),
  );
  sessions.set(model, known); // the newest last
  known.catch(() => sessions.delete(model));
  if (sessions.size > MODELS) {
    const [oldest, made] = sessions.entries().next().value!;
    sessions.delete(oldest);
    void made.then((each) => each.release()).catch(() => undefined);
  }
  return known;
}

function noise(seed: number, { draw, distribution, dims, dtype }: Feed) {
  const key = [seed, draw, distribution, dtype, ...dims].join(" ");
  let made = noises.get(key);
  if (!made) {
    made = numbers(seed, draw!, distribution!, dims, dtype);
    if ((kept += made.length) > NOISE) {
      noises.clear();
      kept = made.length;
    }
    noises.set(key, made);
  }
  return made;
}

function tensor(seed: number, feed: Feed): ort.Tensor {
  const { dtype, dims, value } = feed;
  if (value === undefined)
    return new ort.Tensor(dtype as "float32", noise(seed, feed) as Float32Array, dims);
  if (dtype === "int64") return new ort.Tensor("int64", BigInt64Array.of(BigInt(value)), dims);
  return dtype === "float64"
    ? new ort.Tensor("float64", Float64Array.of(value), dims)
    : new ort.Tensor("float32", Float32Array.of(value), dims);
}

async function run(ask: Ask & { kind: "run" }): Promise<(Float32Array | Float64Array)[]> {
  const model = await session(ask.model);
  const feeds = Object.fromEntries(ask.feeds.map((each) => [each.name, tensor(ask.seed, each)]));
  const made = await model.run(feeds, ask.outputs);
  const columns = ask.outputs.map((name) => {
    const { data } = made[name]!;
    if (data instanceof Float32Array || data instanceof Float64Array) return data.slice();
    return Float64Array.from(data as unknown as ArrayLike<number | bigint>, Number);
  });
  for (const each of [...Object.values(made), ...Object.values(feeds)]) each.dispose();
  return columns;
}

async function answer(ask: Ask): Promise<Reply> {
  if (ask.kind === "start") await start(ask.wasm);
  else if (ask.kind === "load") await session(ask.model);
  else return { id: ask.id, columns: await run(ask) };
  return { id: ask.id };
}

let work: Promise<unknown> = Promise.resolve();

self.addEventListener("message", ({ data: ask }: MessageEvent<Ask>) => {
  work = work
    .then(() => answer(ask))
    .catch((fault): Reply => ({
      id: ask.id,
      failed: fault instanceof Error ? fault.message : String(fault),
    }))
    .then((reply) => {
      const parts = (reply.columns ?? []).map((column) => column.buffer as ArrayBuffer);
      self.postMessage(reply, { transfer: [...new Set(parts)] });
    });
});
