// Figures that need nothing computed: all that they may show came with them. A run replayed step by
// step, and the graph of a model.
import { controlView, element, shown, type ControlView } from "./controls";
import { addStyle } from "./figure";
import { graphView } from "./graph";
import type { Controls, ControlSpec, Model, Wire, Words } from "./protocol";
import { stepperView } from "./stepper";
import { mode, watchMode } from "./theme";

const SPEAK_AFTER = 500; // ms of rest before a change is said aloud

/** Draws what there is at these settings; returns it in words. */
export type View = (controls: Controls) => string;

/** By a figure's kind: how its view is made, in an element of its own. */
const VIEWS: Record<string, (frame: HTMLElement, state: any, specs: ControlSpec[]) => View> = {
  stepper: stepperView,
  graph: graphView,
};

export class Drawn {
  private readonly root = element("section", "pplkit-figure pplkit-drawn");
  private readonly frame = element("div", "pplkit-frame");
  private readonly caption = element("p", "pplkit-caption");
  private readonly live = element("div", "pplkit-live");
  private readonly specs: ControlSpec[];
  private readonly views: Map<string, ControlView>;
  private readonly view: View;
  private readonly ends: (() => void)[] = [];
  private before: Controls;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly model: Model,
    host: HTMLElement,
  ) {
    addStyle();
    const kind = model.get("_kind") as string;
    const words = model.get("_words") as Words;
    this.specs = model.get("_controls") as ControlSpec[];
    const { root, specs } = this;
    root.dataset["kind"] = kind;
    root.setAttribute("aria-label", words.title || kind);
    this.live.setAttribute("aria-live", "polite");
    const panel = element("div", "pplkit-controls");
    this.views = new Map(
      specs.map((spec) => {
        const change = (value: Wire) => this.change({ [spec.name]: value });
        const view = controlView(spec, change, (text) => (this.live.textContent = text));
        panel.append(view.el);
        return [spec.name, view];
      }),
    );
    if (words.title) root.append(element("p", "pplkit-title", words.title));
    root.append(this.frame, this.caption, panel, this.buttons(), this.live);
    host.append(root);
    this.view = VIEWS[kind]!(this.frame, model.get("_state"), specs);
    this.before = this.now();
    this.follow();
    this.draw();
    root.dataset["state"] = "ready";
    root.dataset["settled"] = "true";
  }

  close(): void {
    clearTimeout(this.timer);
    for (const end of this.ends) end();
    this.root.remove();
  }

  private buttons(): HTMLElement {
    const row = element("div", "pplkit-buttons");
    const button = (words: string, title: string, press: () => void) => {
      const made = element("button", "pplkit-button", words);
      made.type = "button";
      made.title = title;
      made.addEventListener("click", press);
      row.append(made);
    };
    const player = this.specs.find((spec) => spec.play);
    if (player) {
      const by = (step: number) => {
        const now = this.model.get(player.name) as number;
        const next = Math.min(player.high!, Math.max(player.low!, now + step));
        this.change({ [player.name]: next });
      };
      button("◀ back", "One step back", () => by(-1));
      button("next ▶", "One step on", () => by(1));
    }
    button("reset", "Back to the values at the start", () =>
      this.change(Object.fromEntries(this.specs.map((spec) => [spec.name, spec.initial]))),
    );
    return row;
  }

  private follow(): void {
    const { model, ends } = this;
    for (const { name } of this.specs) {
      const hear = () => this.draw();
      model.on(`change:${name}`, hear);
      ends.push(() => model.off(`change:${name}`, hear));
    }
    const dress = () => (this.root.dataset["theme"] = mode(this.root));
    dress();
    ends.push(watchMode(dress));
  }

  private change(values: Controls): void {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  private now(): Controls {
    return Object.fromEntries(
      this.specs.map(({ name }) => [name, this.model.get(name) as Wire]),
    );
  }

  private draw(): void {
    const now = this.now();
    for (const { name } of this.specs) this.views.get(name)!.show(now[name] ?? null);
    const words = this.view(now);
    this.caption.textContent = words;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const moved = this.specs.filter(({ name }) => now[name] !== this.before[name]);
      this.before = now;
      const values = moved.map((spec) => `${spec.label} ${shown(spec, now[spec.name] ?? null)}`);
      if (moved.length) this.live.textContent = `${values.join(", ")}. ${words}`;
    }, SPEAK_AFTER);
  }
}
