// A recorded run, event by event: where the program stands, which handler has the message, what the
// message says, and what the trace holds by then.
import { element } from "./controls";
import type { View } from "./drawn";
import type { Controls } from "./protocol";

interface Step {
  words: string;
  line: number | null; // of the program, from 0
  stack: number[]; // handlers in force, the innermost first
  at: number; // in that stack: -1 the program, its length the default
  way: "down" | "up" | "turn" | "none";
  message: [string, string, boolean][]; // field, value, whether this event has changed it
}

interface State {
  program: string[];
  handlers: string[];
  steps: Step[];
  rows: { cells: string[]; since: number; scored: number }[]; // of the trace, by event
  head: string[];
}

export function stepperView(frame: HTMLElement, state: State): View {
  const program = box("The program", "pplkit-program");
  const way = box("The message, and who sees it", "pplkit-way");
  const message = box("What it says", "pplkit-message");
  const trace = box("The trace so far", "pplkit-trace");
  frame.classList.add("pplkit-stepper");
  frame.append(program.el, way.el, message.el, trace.el);
  const lines = state.program.map((text) => {
    const line = element("code", "pplkit-line", text || " ");
    program.in.append(line);
    return line;
  });
  // Boxes keep the height of what they will hold at most, so that nothing jumps.
  const most = (count: (step: Step) => number) => Math.max(...state.steps.map(count));
  way.in.style.minHeight = `${2.2 * (most((s) => s.stack.length) + 2)}em`;
  message.in.style.minHeight = `${1.7 * most((s) => s.message.length)}em`;
  trace.in.style.minHeight = `${1.8 * (state.rows.length + 1)}em`;
  return (controls: Controls) => {
    const step = state.steps[controls["step"] as number]!;
    for (const [place, line] of lines.entries()) line.classList.toggle("pplkit-now", place === step.line);
    lines[step.line ?? 0]?.scrollIntoView?.({ block: "nearest", inline: "nearest" });
    way.in.replaceChildren(...stations(state, step));
    message.in.replaceChildren(fields(step));
    trace.in.replaceChildren(table(state, controls["step"] as number));
    return step.words;
  };
}

function box(title: string, name: string) {
  const el = element("div", `pplkit-box ${name}`);
  const inside = element("div", "pplkit-inside");
  el.append(element("p", "pplkit-box-title", title), inside);
  return { el, in: inside };
}

/** The program, the handlers from the innermost out, and the default; the message at one of them. */
function stations(state: State, step: Step): HTMLElement[] {
  const names = ["the program", ...step.stack.map((i) => state.handlers[i]!), "no handler: the default"];
  return names.map((name, place) => {
    const here = place === step.at + 1;
    const made = element("div", "pplkit-station");
    const arrow = { down: "↓", up: "↑", turn: "↻", none: "" }[step.way];
    const passed = step.way === "down" ? place <= step.at : step.way !== "none";
    made.append(element("span", "pplkit-arrow", here ? arrow || "●" : passed ? "·" : ""));
    made.append(element("span", "pplkit-name", name));
    if (here) {
      made.classList.add("pplkit-now");
      made.setAttribute("aria-current", "step");
    }
    return made;
  });
}

function fields(step: Step): HTMLElement {
  const list = element("dl", "pplkit-fields");
  for (const [name, value, changed] of step.message) {
    const said = element("dd", changed ? "pplkit-changed" : "", value);
    if (changed) said.append(element("span", "pplkit-mark", " ◂ new"));
    list.append(element("dt", "", name), said);
  }
  return list;
}

function table(state: State, now: number): HTMLElement {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const name of state.head) {
    const cell = element("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  const there = state.rows.filter((row) => row.since <= now);
  for (const { cells, scored } of there) {
    const line = body.insertRow();
    for (const [place, text] of cells.entries()) {
      const known = place < cells.length - 1 || scored <= now;
      line.insertCell().textContent = known ? text : "";
    }
  }
  if (!there.length) {
    const empty = body.insertRow().insertCell();
    empty.textContent = "nothing yet";
    empty.colSpan = state.head.length;
  }
  return made;
}
