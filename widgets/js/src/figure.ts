// A figure in the page: title, chart, caption, controls, and a line that says what happens.
import { Chart } from "./chart";
import { controlView, element, shown, type ControlView } from "./controls";
import type {
  Answer,
  Controls,
  ControlSpec,
  Model,
  Picture,
  Source,
  Trouble,
  Wire,
  Words,
} from "./protocol";
import css from "./style.css";
import { mode, watchMode } from "./theme";
import { caption } from "./words";

const SPEAK_AFTER = 500; // ms of rest before a change is said aloud
const BUSY_AFTER = 300; // ms before "computing" is shown
const SILENT_AFTER = 6_000; // ms before a missing answer is said
const SEEDS = 2 ** 32;

export class Figure {
  private readonly root = element("section", "pplkit-figure");
  private readonly frame = element("div", "pplkit-chart");
  private readonly caption = element("p", "pplkit-caption");
  private readonly panel = element("div", "pplkit-controls");
  private readonly status = element("div", "pplkit-status");
  private readonly live = element("div", "pplkit-live");
  private readonly fit = this.button("fit axes", () => void this.fitAxes());
  private readonly chart: Chart;
  private readonly words: Words;
  private readonly ends: (() => void)[] = [];
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();
  private specs: ControlSpec[] = [];
  private views = new Map<string, ControlView>();
  private held: Promise<unknown> | undefined;
  private heldFor = ""; // the choices to which the axes were fitted
  private serial = -1;
  private newest = 0; // of the pictures that have come, shown or not
  private picture: Picture | undefined;
  private trouble: Trouble | undefined;
  private gone = "";
  private notice = "";
  private silent = false; // no answer has come for long
  private spoken: Controls | undefined; // the controls of which was spoken last
  private closed = false;

  constructor(
    private readonly model: Model,
    host: HTMLElement,
    private readonly source: Source,
  ) {
    addStyle();
    this.words = model.get("_words") as Words;
    this.build();
    host.append(this.root);
    const width = Math.floor(this.frame.clientWidth) || 600;
    this.chart = new Chart(
      this.frame,
      model.get("_spec") as Record<string, unknown>,
      mode(this.root),
      width,
    );
    this.root.dataset["theme"] = mode(this.root);
    this.follow();
    source.hello();
    this.expect();
  }

  close(): void {
    this.closed = true;
    for (const end of this.ends) end();
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.chart.close();
    this.root.remove();
  }

  // -- making it ---------------------------------------------------------------------------------
  private build(): void {
    const { root, words } = this;
    root.dataset["state"] = "loading";
    root.setAttribute("aria-label", words.title || "live figure");
    this.frame.setAttribute("role", "img");
    this.frame.setAttribute("aria-label", words.alt);
    this.status.setAttribute("aria-live", "polite");
    this.live.setAttribute("aria-live", "polite");
    this.fit.hidden = true;
    this.fit.title = "Let the axes fit what is drawn now";
    const buttons = element("div", "pplkit-buttons");
    const reset = this.button("reset", () => this.reset());
    reset.title = "Back to the values at the start";
    buttons.append(reset);
    if (words.random) {
      const again = this.button("new draw", () => this.newDraw());
      again.title = "Other random numbers";
      buttons.append(again);
    }
    buttons.append(this.fit);
    if (words.title) root.append(element("p", "pplkit-title", words.title));
    root.append(this.frame, this.caption, this.panel, buttons, this.status, this.live);
    this.caption.hidden = !words.caption;
    this.makeControls();
  }

  private makeControls(): void {
    this.specs = this.model.get("_controls") as ControlSpec[];
    this.views = new Map(
      this.specs.map((spec) => {
        const view = controlView(
          spec,
          (value) => this.change({ [spec.name]: value }),
          (text) => this.say(text),
        );
        view.show(this.model.get(spec.name) as Wire);
        return [spec.name, view];
      }),
    );
    this.panel.replaceChildren(...[...this.views.values()].map((view) => view.el));
    this.reveal();
  }

  /** Show the controls that have a part in the present choices. */
  private reveal(): void {
    const now = (name: string) => {
      const spec = this.specs.find((each) => each.name === name);
      return spec ? shown(spec, this.model.get(name) as Wire) : "";
    };
    for (const { name, when } of this.specs) {
      const all = Object.entries(when ?? {}).every(([other, any]) => any.includes(now(other)));
      this.views.get(name)!.el.hidden = !all;
    }
  }

  private button(words: string, press: () => void): HTMLButtonElement {
    const made = element("button", "pplkit-button", words);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  }

  /** Follow the model, the source, the theme and the width of the page. */
  private follow(): void {
    const { model, ends } = this;
    const on = (event: string, hear: () => void) => {
      model.on(event, hear);
      ends.push(() => model.off(event, hear));
    };
    for (const { name } of this.specs) {
      on(`change:${name}`, () => {
        this.views.get(name)?.show(model.get(name) as Wire);
        this.reveal();
        this.expect();
      });
    }
    on("change:seed", () => this.expect());
    on("change:_controls", () => this.makeControls());
    ends.push(this.source.listen((answer) => this.hear(answer)));
    ends.push(watchMode(() => this.redress()));
    const sizes = new ResizeObserver(() => this.redress());
    sizes.observe(this.frame);
    ends.push(() => sizes.disconnect());
  }

  private redress(): void {
    const now = mode(this.root);
    this.root.dataset["theme"] = now;
    const width = Math.floor(this.frame.clientWidth);
    // Nothing is drawn before the first picture, nor while the figure is hidden.
    if (width > 0 && this.picture)
      void this.chart.redress(now, width).catch((fault) => this.broken(fault));
  }

  // -- what the reader does ----------------------------------------------------------------------
  private change(values: Controls): void {
    this.notice = "";
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  private reset(): void {
    this.change({
      ...Object.fromEntries(this.specs.map((s) => [s.name, s.initial])),
      seed: this.words.seed,
    });
    this.say("Back at the start.");
  }

  private newDraw(): void {
    this.change({ seed: Math.floor(Math.random() * SEEDS) });
    this.say("New draw.");
  }

  private async fitAxes(): Promise<void> {
    if (!this.picture) return;
    await this.chart.hold(this.picture.tables);
    this.chart.rebuild();
    await this.chart.draw(this.picture.tables);
    this.fit.hidden = true;
    this.say("The axes fit again.");
  }

  // -- what the source answers -------------------------------------------------------------------
  private hear(answer: Answer): void {
    if (this.closed) return;
    switch (answer.kind) {
      case "notice":
        return this.say(answer.text);
      case "working":
        this.cancel("silent");
        this.silent = false;
        return this.tell();
      case "gone":
        this.gone = answer.text;
        return this.tell();
      case "trouble":
        if (answer.serial < this.serial) return;
        this.serial = answer.serial;
        this.gone = "";
        this.trouble = answer;
        this.root.dataset["state"] = "error";
        this.answered(answer);
        return this.tell();
      case "picture":
        void this.show(answer).catch((fault) => this.broken(fault));
    }
  }

  private async show(picture: Picture): Promise<void> {
    this.newest = Math.max(this.newest, picture.serial);
    if (picture.first) {
      // Axes are fitted to the first evaluation, even when the controls have moved on since.
      if (!this.held) this.fitTo(picture);
      if (this.picture) return;
    }
    await this.held;
    if (this.stale(picture)) return; // before axes are fitted to it, which takes its time
    if (this.held && this.choices(picture) !== this.heldFor) this.fitTo(picture);
    await this.held;
    if (await this.chart.complete(picture.tables)) this.chart.rebuild();
    if (this.stale(picture)) return;
    this.serial = picture.serial;
    this.gone = "";
    this.trouble = undefined;
    this.picture = picture;
    await this.chart.draw(picture.tables);
    // Meanwhile there may be another picture, or something may have failed: that is newer.
    if (this.picture !== picture || this.stale(picture)) return;
    const words = caption(this.words.caption, this.specs, picture.controls, picture.tables);
    this.caption.textContent = words;
    this.root.dataset["state"] = "ready";
    this.root.dataset["serial"] = String(picture.serial);
    this.answered(picture);
    this.tell();
    this.later("speak", SPEAK_AFTER, () => void this.speak(picture, words));
  }

  private stale({ serial }: Picture): boolean {
    return serial < this.newest || serial < this.serial || this.closed;
  }

  /** The choices that call for axes of their own. */
  private choices({ controls }: Picture): string {
    return JSON.stringify(this.specs.filter((s) => s.refit).map((s) => controls[s.name]));
  }

  private fitTo(picture: Picture): void {
    this.heldFor = this.choices(picture);
    this.held = this.chart.hold(picture.tables).then(() => this.chart.rebuild());
  }

  private broken(fault: unknown): void {
    this.root.dataset["state"] = "error";
    this.notice = `The chart cannot be drawn: ${fault instanceof Error ? fault.message : String(fault)}`;
    this.tell();
  }

  // -- what it says ------------------------------------------------------------------------------
  /** An answer for the present controls is expected. */
  private expect(): void {
    if (this.closed) return;
    this.root.dataset["settled"] = "false";
    if (!this.timers.has("busy")) {
      this.later("busy", BUSY_AFTER, () => this.root.setAttribute("aria-busy", "true"));
    }
    if (!this.timers.has("silent")) {
      this.later("silent", SILENT_AFTER, () => {
        this.silent = true;
        this.tell();
      });
    }
  }

  private answered(to: Picture | Trouble): void {
    this.silent = false;
    const now = Object.entries(to.controls).every(
      ([name, value]) => this.model.get(name) === value,
    );
    for (const name of ["busy", "silent"]) this.cancel(name);
    if (now && to.seed === this.model.get("seed")) {
      this.root.dataset["settled"] = "true";
      this.root.removeAttribute("aria-busy");
    } else this.expect();
  }

  private say(text: string): void {
    this.notice = text;
    this.tell();
  }

  /** The status line: what is wrong first, then what there is to know. */
  private tell(): void {
    const { status, trouble } = this;
    const parts: HTMLElement[] = [];
    if (this.gone) parts.push(element("p", "pplkit-gone", this.gone));
    if (trouble) {
      const said = element("div", "pplkit-trouble");
      said.append(
        element("p", "", "The function of this figure failed; the last good picture stays."),
      );
      said.append(
        element("pre", "", trouble.where ? `${trouble.where}\n${trouble.text}` : trouble.text),
      );
      parts.push(said);
    }
    if (this.silent) parts.push(element("p", "", this.source.silence));
    if (this.notice) parts.push(element("p", "", this.notice));
    if (!trouble)
      for (const remark of this.picture?.remarks ?? []) parts.push(element("p", "", remark));
    const words = parts.map((part) => part.textContent).join("\n");
    if (status.textContent === words && status.childElementCount === parts.length) return;
    status.replaceChildren(...parts);
    this.root.classList.toggle("pplkit-is-gone", this.gone !== "");
  }

  /** Say aloud, once the reader rests, what changed. */
  private async speak(picture: Picture, words: string): Promise<void> {
    const before = (this.spoken ??= picture.controls);
    const moved = this.specs.filter(({ name }) => picture.controls[name] !== before[name]);
    this.spoken = picture.controls;
    const values = moved.map(
      (spec) => `${spec.label} ${shown(spec, picture.controls[spec.name] ?? null)}`,
    );
    if (moved.length) this.live.textContent = [values.join(", "), words || "redrawn"].join(". ");
    if (await this.chart.outside(picture.tables)) {
      this.fit.hidden = false;
    } else this.fit.hidden = true;
  }

  private later(name: string, after: number, act: () => void): void {
    this.cancel(name);
    this.timers.set(
      name,
      setTimeout(() => {
        this.timers.delete(name);
        act();
      }, after),
    );
  }

  private cancel(name: string): void {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }
}

/** One style sheet per page, the newest runtime's. */
export function addStyle(): void {
  const id = "pplkit-style";
  const style =
    document.getElementById(id) ?? Object.assign(document.createElement("style"), { id });
  if (style.textContent !== css) style.textContent = css;
  if (!style.isConnected) document.head.append(style);
}
