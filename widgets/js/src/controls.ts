// Native, labelled inputs. They are made once and then only told values, so focus is never lost.
import type { ControlSpec, Wire } from "./protocol";
import { shown, written } from "./words";

export interface ControlView {
  readonly el: HTMLElement;
  /** Show this value, unless the reader is just typing one. */
  show(value: Wire): void;
}

type Say = (text: string) => void;
type Change = (value: Wire) => void;

let made = 0;

export function controlView(spec: ControlSpec, change: Change, say: Say): ControlView {
  const id = `pplkit-control-${++made}`;
  const row = element("div", `pplkit-control pplkit-control-${spec.kind}`);
  const label = element("label", "", spec.label);
  label.id = `${id}-label`;
  label.htmlFor = id;
  const build = { range, number, check, select, text }[spec.kind];
  const { parts, show } = build(spec, id, change, say);
  row.append(...(spec.kind === "check" ? [...parts, label] : [label, ...parts]));
  if (spec.fixed) {
    row.title = "It can be changed where a kernel computes, in the notebook.";
    for (const part of parts) (part as HTMLInputElement).disabled = true;
  }
  return { el: row, show };
}

interface Built {
  parts: HTMLElement[];
  show(value: Wire): void;
}

function range(spec: ControlSpec, id: string, change: Change, say: Say): Built {
  const slider = input("range", id);
  const box = typed(spec, change, say, (value) => void (slider.value = String(place(value))));
  // Of a logarithmic slider, places are logarithms.
  const place = (value: number) => (spec.log ? Math.log(value) : value);
  const [low, high] = [place(spec.low!), place(spec.high!)];
  slider.min = String(low);
  slider.max = String(high);
  // Any value in the range may be set from elsewhere; only whole numbers are a matter of the
  // control itself.
  slider.step = spec.whole ? String(spec.step ?? 1) : "any";
  slider.classList.add("pplkit-slider");
  box.el.setAttribute("aria-label", "exact value");
  box.el.setAttribute("aria-describedby", `${id}-label`);
  const step = spec.log ? Math.log(spec.step!) : (spec.step ?? (high - low) / 100);
  const snap = (at: number) => {
    const there = low + Math.round((at - low) / step) * step;
    return within(spec, spec.log ? Math.exp(there) : there);
  };
  const put = (value: number) => {
    box.show(value);
    slider.setAttribute("aria-valuetext", written(value));
  };
  slider.addEventListener("input", () => {
    go(snap(slider.valueAsNumber));
  });
  slider.addEventListener("keydown", (event) => {
    const by = {
      ArrowRight: 1,
      ArrowUp: 1,
      ArrowLeft: -1,
      ArrowDown: -1,
      PageUp: 10,
      PageDown: -10,
    }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    // With step="any" browsers choose the stride themselves: take the control's own.
    event.preventDefault();
    go(snap(slider.valueAsNumber + by * step));
  });
  const go = (value: number) => {
    slider.value = String(place(value));
    put(value);
    change(value);
  };
  const player = spec.play ? playButton(spec, step, () => slider.valueAsNumber, go) : undefined;
  const stops = ["input", "keydown"].map((kind) => [kind, () => player?.stop()] as const);
  for (const [kind, stop] of stops) slider.addEventListener(kind, stop);
  return {
    parts: player ? [slider, box.el, player.el] : [slider, box.el],
    show(value) {
      if (player?.playing) return;
      slider.value = String(place(value as number));
      put(value as number);
    },
  };
}

const FULL_PLAY = 6_000; // ms from one end to the other
const FRAME = 50;
const CALM_FRAME = 500; // for readers who want less motion: few, distinct steps

/** Moves a slider from where it is, or from the start, to its end. */
function playButton(
  spec: ControlSpec,
  step: number,
  now: () => number,
  go: (value: number) => void,
) {
  const el = element("button", "pplkit-button pplkit-play", "play");
  el.type = "button";
  el.setAttribute("aria-label", `play ${spec.label}`);
  let timer: ReturnType<typeof setInterval> | undefined;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    el.textContent = "play";
    el.setAttribute("aria-label", `play ${spec.label}`);
  };
  el.addEventListener("click", () => {
    if (timer !== undefined) return stop();
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const every = calm ? CALM_FRAME : FRAME;
    const [low, high] = [spec.low!, spec.high!];
    const by = Math.max(1, Math.round(((high - low) / step) * (every / FULL_PLAY))) * step;
    if (now() >= high) go(low);
    el.textContent = "stop";
    el.setAttribute("aria-label", `stop ${spec.label}`);
    timer = setInterval(() => {
      if (!el.isConnected) return stop();
      const value = within(spec, Math.min(high, now() + by));
      go(value);
      if (value >= high) stop();
    }, every);
  });
  return {
    el,
    stop,
    get playing() {
      return timer !== undefined;
    },
  };
}

function number(spec: ControlSpec, id: string, change: Change, say: Say): Built {
  const box = typed(spec, change, say, () => undefined);
  box.el.id = id;
  return { parts: [box.el], show: (value) => box.show(value as number) };
}

/** A box to type a number into; what is no number is put back, with a word. */
function typed(spec: ControlSpec, change: Change, say: Say, also: (value: number) => void) {
  const box = input("number", "");
  box.classList.add("pplkit-readout");
  if (spec.low !== undefined) box.min = String(spec.low);
  if (spec.high !== undefined) box.max = String(spec.high);
  box.step = spec.whole ? "1" : "any";
  let kept = "";
  box.addEventListener("change", () => {
    const asked = box.valueAsNumber;
    if (!Number.isFinite(asked)) {
      box.value = kept;
      say(`${spec.label}: that is not a number; it stays at ${written(Number(kept))}.`);
      return;
    }
    const value = within(spec, asked);
    if (value !== asked) {
      const limits =
        spec.low === undefined ? "" : ` from ${written(spec.low)} to ${written(spec.high)}`;
      say(
        `${spec.label} takes ${spec.whole ? "whole numbers" : "numbers"}${limits}; held at ${written(value)}.`,
      );
    }
    box.value = kept = plain(value);
    also(value);
    change(value);
  });
  return {
    el: box,
    show(value: number) {
      kept = plain(value);
      if (document.activeElement !== box) box.value = kept;
    },
  };
}

function check(_: ControlSpec, id: string, change: Change): Built {
  const box = input("checkbox", id);
  box.addEventListener("input", () => change(box.checked));
  return { parts: [box], show: (value) => void (box.checked = value === true) };
}

function select(spec: ControlSpec, id: string, change: Change): Built {
  const list = document.createElement("select");
  list.id = id;
  for (const [place, choice] of (spec.choices ?? []).entries())
    list.add(new Option(choice, String(place)));
  list.addEventListener("input", () => change(list.selectedIndex));
  return { parts: [list], show: (value) => void (list.selectedIndex = value as number) };
}

function text(_: ControlSpec, id: string, change: Change): Built {
  const line = input("text", id);
  line.addEventListener("change", () => change(line.value));
  return {
    parts: [line],
    show: (value) => void (document.activeElement !== line && (line.value = String(value))),
  };
}

function within(spec: ControlSpec, value: number): number {
  let held = spec.whole ? Math.round(value) : Number(value.toPrecision(12));
  if (spec.low !== undefined) held = Math.max(held, spec.low);
  if (spec.high !== undefined) held = Math.min(held, spec.high);
  return held;
}

function plain(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(6))) : "";
}

function input(type: string, id: string): HTMLInputElement {
  const made = document.createElement("input");
  made.type = type;
  if (id) made.id = id;
  made.autocomplete = "off";
  return made;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  name = "",
  words = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (words) made.textContent = words;
  return made;
}

export { shown };
