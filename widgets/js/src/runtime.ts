// What a page needs to carry figures.
import { Drawn } from "./drawn";
import { Figure } from "./figure";
import { KernelSource } from "./kernel";
import type { Model, Source } from "./protocol";

/** Draw the model's figure into `el`; returns how to take it away. */
export function mount(
  model: Model,
  el: HTMLElement,
  source: Source = new KernelSource(model),
): () => void {
  const figure = model.get("_kind") ? new Drawn(model, el) : new Figure(model, el, source);
  return () => figure.close();
}
