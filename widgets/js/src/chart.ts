// Draws tables with Vega-Lite: the specification compiled once per theme, its scales held still.
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { Handler, escapeHTML } from "vega-tooltip";
import type { Row, Tables } from "./protocol";
import { chartConfig, type Mode } from "./theme";
import { view as viewOf } from "./vega";

type Domain = number[];
type Domains = Record<string, Domain>;

const CONTINUOUS = new Set([undefined, "linear", "log", "pow", "sqrt", "symlog", "time", "utc"]);
const COMPOSED = ["hconcat", "vconcat", "concat", "facet", "repeat"];
const FACETS = ["row", "column", "facet"];
// px by which marks may overlap the plot's edge
const MARGINS: Record<string, number> = { symbol: 10 };
const MARGIN = 2;
const BESIDE = 72; // px that the axes of stacked panels take
const NARROW = 480; // px of width under which legends stand in two columns

const FAR = 1e33; // no path may hold a pixel beyond 3e38
const TIP = "pplkit-tooltip";

/** What a tooltip says: text alone (the library's own way would fetch a field named `image`). */
function told(value: unknown): string {
  if (value === null || typeof value !== "object") return escapeHTML(value);
  const rows = Object.entries(value).map(
    ([name, said]) =>
      `<tr><td class="key">${escapeHTML(name)}</td><td class="value">${escapeHTML(said)}</td></tr>`,
  );
  return `<table><tbody>${rows.join("")}</tbody></table>`;
}

// A figure fetches nothing, whatever its specification says.
const refuse = () => Promise.reject(new Error("A live figure loads nothing from outside."));
const loader = {
  load: refuse,
  sanitize: refuse,
  http: refuse,
  file: refuse,
  options: {},
} as unknown as vega.Loader;

export class Chart {
  private view: vega.View | undefined;
  private domains: Domains = {};
  private unseen = new Set<string>(); // scales to which no data have given a domain yet
  private names = new Set<string>();
  private latest: Tables = new Map();
  private work: Promise<void> = Promise.resolve();
  private waiting = false;
  private outdated = false;

  constructor(
    private readonly el: HTMLElement,
    private readonly spec: Record<string, unknown>,
    private mode: Mode,
    private width: number,
  ) {}

  /** Panels one below the other, none with a width of its own: they take the page's width too. */
  private get stacked(): Record<string, unknown>[] | undefined {
    const panels = this.spec["vconcat"] as Record<string, unknown>[] | undefined;
    return panels?.every((panel) => typeof panel["width"] !== "number") ? panels : undefined;
  }

  /** Whether the width is the page's to choose. */
  get fluid(): boolean {
    return !this.composed && typeof this.spec["width"] !== "number";
  }

  /** Whether there are several panels. */
  private get composed(): boolean {
    const encoding = (this.spec["encoding"] as object | undefined) ?? {};
    return COMPOSED.some((key) => key in this.spec) || FACETS.some((key) => key in encoding);
  }

  /** Fix every scale that the chart leaves open to what fits these tables. */
  async hold(tables: Tables): Promise<void> {
    const { found, empty } = await this.fitting(tables);
    this.domains = found;
    this.unseen = empty;
  }

  /** Fix the scales that had no data so far to what fits these tables; returns whether any has. */
  async complete(tables: Tables): Promise<boolean> {
    if (!this.unseen.size) return false;
    const { found, empty } = await this.fitting(tables);
    const come = [...this.unseen].filter((name) => !empty.has(name));
    for (const name of come) this.domains[name] = found[name]!;
    this.unseen = empty;
    return come.length > 0;
  }

  /** Whether these tables reach beyond the axes. */
  async outside(tables: Tables): Promise<boolean> {
    const { found: fit } = await this.fitting(tables);
    return Object.entries(this.domains).some(([scale, held]) => {
      const now = fit[scale];
      if (!now || now.length !== 2 || !now.every(Number.isFinite)) return false;
      const [low, high] = [Math.min(...held), Math.max(...held)];
      const slack = (high - low) * 0.02;
      return Math.min(...now) < low - slack || Math.max(...now) > high + slack;
    });
  }

  /** Draw the newest tables; those that were waiting to be drawn are passed over. */
  draw(tables: Tables): Promise<void> {
    this.latest = tables;
    if (!this.waiting) {
      this.waiting = true;
      this.work = this.work
        .catch(() => undefined)
        .then(() => {
          this.waiting = false;
          return this.paint();
        });
    }
    return this.work;
  }

  /** The same picture in other clothes. */
  redress(mode: Mode, width: number): Promise<void> {
    if (mode === this.mode && width === this.width) return this.work;
    const narrower = width < NARROW !== this.width < NARROW;
    if (mode !== this.mode || narrower || (this.stacked && width !== this.width)) this.rebuild();
    this.mode = mode;
    this.width = width;
    return this.draw(this.latest);
  }

  /** Compile anew at the next drawing. */
  rebuild(): void {
    this.outdated = true; // a view that is being drawn and is ended would never say that it is done
  }

  close(): void {
    this.view?.finalize();
    this.view = undefined;
    document.getElementById(TIP)?.classList.remove("visible");
  }

  private async paint(): Promise<void> {
    if (this.outdated) this.close();
    this.outdated = false;
    if (!this.view) {
      const made = this.compiled();
      held(made, this.domains, this.unseen);
      clipped(made, this.composed);
      this.names = new Set((made.data ?? []).map((each) => each.name));
      // The old picture stays until the new one is ready: no flicker, no jump of the page.
      const stage = document.createElement("div");
      this.view = viewOf(made, {
        loader,
        renderer: "svg",
        container: stage,
        hover: true,
        logLevel: vega.Error,
        tooltip: new Handler({ id: TIP, styleId: `${TIP}-style`, theme: this.mode, formatTooltip: told }).call,
      } as vega.ViewOptions);
      this.fill(this.view, this.names);
      await this.view.runAsync();
      stage.querySelector("svg")?.setAttribute("aria-hidden", "true");
      this.el.replaceChildren(stage);
      return;
    }
    this.fill(this.view, this.names);
    if (this.fluid) this.view.width(this.width);
    await this.view.runAsync();
  }

  /** What is drawn of a number that is far beyond axes which end nearer. */
  private get most(): number {
    const ends = Object.values(this.domains).flat();
    return ends.some((end) => Math.abs(end) > FAR / 1e3) ? Infinity : FAR;
  }

  private fill(view: vega.View, names: Set<string>, tables = this.latest, most = this.most): void {
    for (const [name, rows] of tables) {
      // Vega keeps its own marks on a row: give it rows of its own.
      if (names.has(name))
        view.data(
          name,
          rows.map((row) => drawable(row, most)),
        );
    }
  }

  private compiled(): vega.Spec {
    const stacked = this.stacked;
    const spec = this.fluid
      ? { ...this.spec, width: this.width, autosize: { type: "fit-x", contains: "padding" } }
      : stacked
        ? {
            ...this.spec,
            vconcat: stacked.map((each) => ({ ...each, width: this.width - BESIDE })),
          }
        : this.spec;
    const config = chartConfig(this.mode);
    if (this.width < NARROW) config["legend"] = { ...(config["legend"] as object), columns: 2 };
    return compile(spec as unknown as TopLevelSpec, { config, logger: quiet }).spec;
  }

  /** The domains that open scales take for these tables. */
  private async fitting(tables: Tables): Promise<{ found: Domains; empty: Set<string> }> {
    const made = this.compiled();
    const open = (made.scales ?? []).filter(isOpen);
    const view = viewOf(made, { loader, renderer: "none", logLevel: vega.None });
    this.fill(view, new Set((made.data ?? []).map((each) => each.name)), tables, Infinity);
    await view.runAsync();
    const found: Domains = {};
    const empty = new Set<string>();
    for (const { name } of open) {
      const domain = (view.scale(name).domain() as unknown[]).map(Number);
      if (domain.length < 2 || !domain.every(Number.isFinite)) empty.add(name);
      else if (domain[0] !== domain.at(-1)) found[name] = domain;
    }
    view.finalize();
    return { found, empty };
  }
}

/** A row as charts take it: what is no finite number is nothing, as in a still picture. */
function drawable(row: Row, most: number): Record<string, number | boolean | null> {
  const made: Record<string, number | boolean | null> = { ...row };
  for (const name in made) {
    const value = made[name];
    if (typeof value !== "number") continue;
    if (!Number.isFinite(value)) made[name] = null;
    else if (Math.abs(value) > most) made[name] = Math.sign(value) * most;
  }
  return made;
}

function isOpen(scale: vega.Scale): boolean {
  return CONTINUOUS.has(scale.type) && !Array.isArray(scale.domain) && scale.domain !== undefined;
}

/** Write domains into a compiled specification; where no data have come, axes show something. */
function held(made: vega.Spec, domains: Domains, unseen: Set<string>): void {
  for (const scale of made.scales ?? []) {
    const nothing = scale.type === "log" ? [1, 10] : [0, 1];
    const domain = domains[scale.name] ?? (unseen.has(scale.name) ? nothing : undefined);
    if (!domain) continue;
    const open = scale as unknown as Record<string, unknown>;
    open["domain"] = domain; // a reader's zoom, if the chart has it, is domainRaw and stays
    for (const key of ["nice", "zero", "padding", "domainMin", "domainMax"]) delete open[key];
  }
}

/** Keep what lies beyond the axes from being drawn across the page. */
function clipped(made: vega.Spec, composed: boolean): void {
  const frame = (by: number, wide: string, high: string) =>
    `'M-${by},-${by}h'+(${wide}+${2 * by})+'v'+(${high}+${2 * by})+'h-'+(${wide}+${2 * by})+'z'`;
  const visit = (marks: vega.Mark[] | undefined, wide = "", high = "") => {
    for (const mark of marks ?? []) {
      if (mark.type === "group") {
        // Of several panels, each has a size of its own.
        const own = (mark.encode?.update ?? {}) as Record<string, { signal?: string }>;
        visit(mark.marks, own["width"]?.signal ?? wide, own["height"]?.signal ?? high);
      } else if (wide && high && mark.type !== "text" && !mark.clip) {
        mark.clip = { path: { signal: frame(MARGINS[mark.type] ?? MARGIN, wide, high) } };
      }
    }
  };
  if (composed) visit(made.marks);
  else visit(made.marks, "width", "height");
}

const quiet = {
  warn: () => quiet,
  info: () => quiet,
  debug: () => quiet,
  level: () => quiet,
  error: (...said: readonly unknown[]) => {
    console.error("pplwidgets:", ...said);
    return quiet;
  },
} as any;
