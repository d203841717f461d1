// The graph of a model: one drawing for each combination of settings, made beforehand.
import type { View } from "./drawn";
import type { Controls, ControlSpec } from "./protocol";

interface State {
  drawings: string[];
  /** By the settings, as JSON in the order of the controls: which drawing, and what it shows. */
  places: Record<string, [number, string]>;
}

export function graphView(frame: HTMLElement, state: State, specs: ControlSpec[]): View {
  frame.classList.add("pplkit-drawing");
  const heights = state.drawings.map((svg) => Number(/\bheight="([\d.]+)"/.exec(svg)?.[1] ?? 0));
  frame.style.minHeight = `${Math.max(...heights)}px`; // what is below stays where it is
  let drawn = -1;
  return (controls: Controls) => {
    const key = JSON.stringify(specs.map(({ name }) => controls[name]));
    const [place, words] = state.places[key] ?? [-1, "This setting was not drawn beforehand."];
    if (place >= 0 && place !== drawn) {
      const parsed = new DOMParser().parseFromString(state.drawings[place]!, "image/svg+xml");
      frame.replaceChildren(document.importNode(parsed.documentElement, true));
      drawn = place;
    }
    return words;
  };
}
