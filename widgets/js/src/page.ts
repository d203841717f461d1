// A figure in a published page, where no kernel answers: the page itself computes.
import { read, write } from "./address";
import { Drawn } from "./drawn";
import { Blocked, Engine } from "./engine";
import { Figure } from "./figure";
import {
  unpack,
  type Answer,
  type Controls,
  type ControlSpec,
  type Head,
  type Model,
  type Row,
  type Source,
  type Tables,
  type Wire,
} from "./protocol";
import { decoded, fetched, remarks, sizeAt, sizesOf, type Published } from "./published";
import type { Feed } from "./worker";

const REST = 400; // ms of rest before the address is written
const LARGEST = 2 ** 25; // of a draw: as many numbers as a page's memory bears

type Hear = (...args: any[]) => void;

/** What a kernel's model is to a figure, with nothing behind it. */
export class PageModel implements Model {
  private readonly values: Map<string, unknown>;
  private readonly hearers = new Map<string, Set<Hear>>();
  private staged = new Map<string, unknown>();
  private moved = new Set<string>(); // what was asked for and is not quite what it becomes

  constructor(
    private readonly published: Published,
    at: Controls,
  ) {
    this.values = new Map<string, unknown>([
      ["_spec", published.spec],
      ["_controls", published.controls],
      ["_words", published.words],
      ["_kind", published.kind],
      ["_state", published.state],
      ...Object.entries({ ...start(published), ...at }),
    ]);
  }

  get(name: string): unknown {
    return this.values.get(name);
  }

  set(name: string, value: unknown): void {
    const nearest = this.nearest(name, value);
    if (nearest !== value) this.moved.add(name);
    this.staged.set(name, nearest);
  }

  save_changes(): void {
    const moved = [...this.staged].filter(([name, value]) => this.values.get(name) !== value);
    this.staged = new Map();
    for (const [name, value] of moved) this.values.set(name, value);
    const told = new Set([...moved.map(([name]) => name), ...this.moved]);
    this.moved.clear();
    for (const name of told) this.tell(`change:${name}`);
    if (moved.length) this.tell("change");
  }

  on(event: string, hear: Hear): void {
    if (!this.hearers.has(event)) this.hearers.set(event, new Set());
    this.hearers.get(event)!.add(hear);
  }

  off(event: string, hear: Hear): void {
    this.hearers.get(event)?.delete(hear);
  }

  send(): void {}

  /** The settings of all controls, and the seed. */
  now(): Controls {
    return Object.fromEntries(
      Object.keys(start(this.published)).map((name) => [name, this.values.get(name) as Wire]),
    );
  }

  private tell(event: string): void {
    for (const hear of this.hearers.get(event) ?? []) hear();
  }

  /** Of a table's settings, the nearest one that was computed. */
  private nearest(name: string, value: unknown): unknown {
    const axis = this.published.grid?.axes.find((each) => each.control === name);
    if (!axis || typeof value !== "number") return value;
    const far = (other: Wire) => Math.abs((other as number) - value);
    return axis.values.reduce((best, each) => (far(each) < far(best) ? each : best));
  }
}

/** The settings at the start. */
export function start({ controls, words }: Published): Controls {
  return { ...Object.fromEntries(controls.map((c) => [c.name, c.initial])), seed: words.seed };
}

interface Request {
  serial: number;
  settings: Controls;
}

/** The page as the place that computes. */
export class PageSource implements Source {
  readonly silence =
    "What computes this figure is still on its way to this page. The last picture stays.";
  private hear: ((answer: Answer) => void) | undefined;
  private serial = 0;
  private busy = false;
  private waiting: Request | undefined; // the newest, or nothing
  private grid: Promise<ArrayBuffer> | undefined;
  private readonly first: Tables;

  constructor(
    private readonly model: PageModel,
    private readonly published: Published,
    private readonly base: string,
    private readonly engine: Engine,
    private readonly words: string[],
    private readonly give_up: () => void,
  ) {
    const { tables, data } = published.first;
    this.first = columns(tables, decoded(data));
  }

  listen(hear: (answer: Answer) => void): () => void {
    this.hear = hear;
    const moved = () => this.request();
    this.model.on("change", moved);
    return () => {
      this.hear = this.waiting = undefined;
      this.model.off("change", moved);
    };
  }

  hello(): void {
    this.answer({ serial: 0, settings: start(this.published) }, this.first, true);
    if (this.words.length) this.hear?.({ kind: "notice", text: this.words.join(" ") });
    this.request();
  }

  /** Fetch what will be needed, before it is. */
  warm(): void {
    const program = this.program(this.model.now());
    const done = this.published.grid
      ? this.entries()
      : program && this.engine.load(this.url(program.model));
    void done?.catch(() => undefined); // said when it is asked for
  }

  private request(): void {
    this.waiting = { serial: ++this.serial, settings: this.model.now() };
    if (!this.busy) void this.work();
  }

  private async work(): Promise<void> {
    this.busy = true;
    while (this.waiting && this.hear) {
      const request = this.waiting;
      this.waiting = undefined;
      try {
        const tables = await this.evaluate(request.settings);
        this.answer(request, tables, false);
      } catch (fault) {
        if (fault instanceof Blocked) this.give_up();
        else this.failed(request, fault);
      }
    }
    this.busy = false;
  }

  private answer({ serial, settings }: Request, tables: Tables, first: boolean): void {
    const { seed, ...controls } = settings;
    this.hear?.({
      kind: "picture",
      first,
      serial,
      controls,
      seed: seed as number,
      tables,
      remarks: remarks(tables, this.published.drawn),
    });
  }

  private failed({ serial, settings }: Request, fault: unknown): void {
    const { seed, ...controls } = settings;
    const text = fault instanceof Error ? fault.message : String(fault);
    this.hear?.({ kind: "trouble", text, where: "", serial, controls, seed: seed as number });
  }

  /** The tables at these settings of controls and seed. */
  async evaluate(settings: Controls): Promise<Tables> {
    const begin = start(this.published);
    if (Object.entries(begin).every(([name, value]) => settings[name] === value)) return this.first;
    return this.published.grid ? this.entry(settings) : this.computed(settings);
  }

  private program(settings: Controls) {
    return this.published.programs.find((each) => sizesOf(each, settings));
  }

  private async computed(settings: Controls): Promise<Tables> {
    const fails = this.published.failing.find(({ when }) =>
      Object.entries(when).every(([name, value]) => settings[name] === value),
    );
    if (fails) throw new Error(fails.text);
    const program = this.program(settings);
    if (!program) throw new Error("These settings were not published: they need a kernel.");
    const sizes = sizesOf(program, settings)!;
    const feeds = program.inputs.map(({ name, dtype, shape, control, add, draw, distribution }) => {
      const dims = shape.map((size) => sizeAt(size, sizes) as number);
      if (dims.reduce((a, b) => a * b, 1) > LARGEST)
        throw new Error("These settings take more random numbers than a page has room for.");
      const feed: Feed = { name, dtype, dims };
      if (control !== undefined) return { ...feed, value: Number(settings[control]) + (add ?? 0) };
      return { ...feed, draw: draw!, distribution: distribution! };
    });
    const names = program.outputs.map((each) => each.name);
    const url = this.url(program.model);
    const made = await this.engine.run(url, settings["seed"] as number, feeds, names);
    const tables: Tables = new Map();
    for (const [i, { table, column, boolean }] of program.outputs.entries()) {
      const rows = tables.get(table) ?? Array.from(made[i]!, (): Row => ({}));
      tables.set(table, rows);
      for (const [at, value] of made[i]!.entries()) rows[at]![column] = boolean ? value !== 0 : value;
    }
    return tables;
  }

  private entries(): Promise<ArrayBuffer> {
    this.grid ??= fetched(this.url(this.published.grid!.data));
    this.grid.catch(() => (this.grid = undefined));
    return this.grid;
  }

  private async entry(settings: Controls): Promise<Tables> {
    const { axes, heads, rows } = this.published.grid!;
    const data = await this.entries();
    const place = axes.reduce(
      (at, { control, values }) => at * values.length + values.indexOf(settings[control]!),
      0,
    );
    const whole = (counts: number[]) => heads.map((head, i) => ({ ...head, rows: counts[i]! }));
    if (!rows[place]) throw new Error("The function of this figure fails at these settings.");
    const size = (counts: number[] | null) => (counts ? bytes(whole(counts)) : 0);
    const before = rows.slice(0, place).reduce((sum, counts) => sum + size(counts), 0);
    const here = whole(rows[place]);
    return columns(here, data.slice(before, before + bytes(here)));
  }

  private url(file: string): string {
    return new URL(file, this.base).href;
  }
}

function bytes(heads: Head[]): number {
  const width = (dtype: string) => (dtype === "<f8" ? 8 : 4);
  return heads.reduce(
    (sum, { rows, columns }) => sum + columns.reduce((n, c) => n + rows * width(c.dtype), 0),
    0,
  );
}

/** Tables out of their columns, one after the other. */
function columns(heads: Head[], data: ArrayBuffer): Tables {
  const views: DataView[] = [];
  let at = 0;
  for (const { rows, columns } of heads) {
    for (const { dtype } of columns) {
      const length = rows * (dtype === "<f8" ? 8 : 4);
      views.push(new DataView(data, at, length));
      at += length;
    }
  }
  return unpack(heads, views);
}

export { numbers } from "./noise";

const engines = new Map<string, Engine>();

/**
 * Draw a published figure into `el`.
 *
 * @param base  address of the figure's file, beside which its models are
 * @param key  the figure's name in the page's address
 * @param assets  address of the folder of scripts
 * @param give_up  called when nothing can be computed here
 */
export function mount(
  el: HTMLElement,
  published: Published,
  base: string,
  key: string,
  assets: string,
  give_up: () => void,
): () => void {
  const asked = read(location.search, key, published.controls);
  const model = new PageModel(published, {});
  for (const [name, value] of Object.entries(asked.values)) model.set(name, value);
  model.save_changes();
  if (published.kind) {
    const drawn = new Drawn(model, el);
    const end = keepAddress(model, published.controls, key, start(published));
    return () => (end(), drawn.close());
  }
  if (!engines.has(assets)) engines.set(assets, new Engine(assets));
  const ends: (() => void)[] = [];
  const source = new PageSource(model, published, base, engines.get(assets)!, asked.words, give_up);
  const figure = new Figure(model, el, source);
  const warm = () => source.warm();
  for (const event of ["pointerenter", "pointerdown", "focusin"])
    el.addEventListener(event, warm, { once: true, passive: true });
  ends.push(keepAddress(model, published.controls, key, start(published)));
  return () => {
    for (const end of ends) end();
    figure.close();
  };
}

/**
 * What a published figure comes to at some settings, table by table and column by column: how a book's
 * contracts are checked, by the code that readers run.
 */
export async function replay(
  file: string,
  assets: string,
  settings: { controls: Controls; seed: number }[],
): Promise<Record<string, Record<string, number[]>>[]> {
  const published = JSON.parse(new TextDecoder().decode(await fetched(file))) as Published;
  const model = new PageModel(published, {});
  if (!engines.has(assets)) engines.set(assets, new Engine(assets));
  const engine = engines.get(assets)!;
  const source = new PageSource(model, published, file, engine, [], () => undefined);
  const answers = [];
  for (const { controls, seed } of settings) {
    const tables = await source.evaluate({ ...controls, seed });
    const columns = [...tables].map(([table, rows]) => {
      const names = Object.keys(rows[0] ?? {});
      return [table, Object.fromEntries(names.map((n) => [n, rows.map((row) => Number(row[n]))]))];
    });
    answers.push(Object.fromEntries(columns));
  }
  return answers;
}

/** Write the settings into the address once they rest; follow it when the reader goes back. */
function keepAddress(
  model: PageModel,
  specs: ControlSpec[],
  key: string,
  begin: Controls,
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const note = () => {
    timer = undefined;
    const query = write(location.search, key, specs, model.now(), begin);
    if (query === location.search) return;
    try {
      history.replaceState(history.state, "", location.pathname + query + location.hash);
    } catch {
      // A page without an address of its own, or a browser that has had enough of them.
    }
  };
  const moved = () => {
    clearTimeout(timer);
    timer = setTimeout(note, REST);
  };
  const back = () => {
    const { values } = read(location.search, key, specs);
    for (const [name, value] of Object.entries({ ...begin, ...values })) model.set(name, value);
    model.save_changes();
  };
  model.on("change", moved);
  addEventListener("popstate", back);
  return () => {
    clearTimeout(timer);
    model.off("change", moved);
    removeEventListener("popstate", back);
  };
}
