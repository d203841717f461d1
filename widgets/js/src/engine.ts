// The worker that computes for all figures of a page, as these see it.
import type { Ask, Feed, Reply } from "./worker";

type Column = Float32Array | Float64Array;
type Unsent<T> = T extends unknown ? Omit<T, "id"> : never;

/** What a runtime says whose memory is gone. */
const SPENT = /abort|memory|unreachable|bad_alloc/i;

/** That nothing computes here, ever. */
export class Blocked extends Error {}

export class Engine {
  private worker: Worker | undefined;
  private started: Promise<unknown> | undefined;
  private readonly waiting = new Map<number, { done(reply: Reply): void; fail(fault: Error): void }>();
  private next = 0;

  constructor(private readonly base: string) {}

  /** Fetch what computes, if that has not happened yet. */
  start(): Promise<unknown> {
    return (this.started ??= this.begin().catch((fault: unknown) => {
      this.stop();
      throw fault;
    }));
  }

  /** Have a model ready. */
  async load(model: string): Promise<void> {
    await this.start();
    await this.ask({ kind: "load", model });
  }

  async run(model: string, seed: number, feeds: Feed[], outputs: string[]): Promise<Column[]> {
    await this.start();
    const reply = await this.ask({ kind: "run", model, seed, feeds, outputs });
    return reply.columns!;
  }

  private async begin(): Promise<void> {
    try {
      this.worker = new Worker(new URL("./worker.js", this.base), { type: "module" });
    } catch (fault) {
      throw new Blocked(fault instanceof Error ? fault.message : String(fault));
    }
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
      const asked = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.failed === undefined) return asked?.done(data);
      asked?.fail(new Error(data.failed));
      if (SPENT.test(data.failed)) this.stop(); // it would fail ever after
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      const fault = new Blocked(event.message || "its script cannot be run");
      for (const asked of this.waiting.values()) asked.fail(fault);
      this.stop();
    });
    await this.ask({ kind: "start", wasm: new URL("./ort.wasm.gz", this.base).href });
  }

  private ask(what: Unsent<Ask>): Promise<Reply> {
    return new Promise((done, fail) => {
      if (!this.worker) return fail(new Blocked("it has ended"));
      const id = this.next++;
      this.waiting.set(id, { done, fail });
      this.worker.postMessage({ ...what, id });
    });
  }

  /** As before the start: the next request begins anew. */
  private stop(): void {
    this.worker?.terminate();
    this.worker = this.started = undefined;
    const left = [...this.waiting.values()];
    this.waiting.clear();
    for (const asked of left) asked.fail(new Error("What computes here had to start anew."));
  }
}
