// A figure's settings in the page's address: `?key.control=value&key.seed=value`, what differs from
// the start alone. The fragment stays what it is for, a place on the page.
import type { Controls, ControlSpec, Wire } from "./protocol";
import { accepted } from "./published";

const SEEDS = 2 ** 32;

export interface Found {
  values: Controls;
  words: string[];
}

/** What the address asks of the figure `key`; what makes no sense is left out, with a word. */
export function read(query: string, key: string, specs: ControlSpec[]): Found {
  const found: Found = { values: {}, words: [] };
  for (const [name, text] of new URLSearchParams(query)) {
    if (!name.startsWith(`${key}.`)) continue;
    const control = name.slice(key.length + 1);
    const spec = specs.find((each) => each.name === control);
    if (!spec && control !== "seed") {
      const short = control.length > 40 ? `${control.slice(0, 39)}…` : control;
      found.words.push(`The address names “${short}”, which is no control of this figure.`);
      continue;
    }
    const { value, word } = spec ? accepted(spec, typed(spec, text)) : seeded(text);
    if (value !== undefined) found.values[control] = value;
    if (word) found.words.push(`In the address: ${word}`);
  }
  return found;
}

function seeded(text: string) {
  const value = text.trim() === "" ? NaN : Number(text);
  return Number.isInteger(value) && value >= 0 && value < SEEDS
    ? { value, word: "" }
    : { value: undefined, word: "the seed is no whole number from 0 to 2³² − 1; it is ignored." };
}

function typed(spec: ControlSpec, text: string): unknown {
  if (spec.kind === "text") return text;
  if (spec.kind === "check") return { on: true, off: false }[text] ?? text;
  if (spec.kind === "select") {
    const place = spec.choices?.indexOf(text) ?? -1;
    return place < 0 ? text : place;
  }
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

function plain(spec: ControlSpec | undefined, value: Wire): string {
  if (spec?.kind === "check") return value ? "on" : "off";
  if (spec?.kind === "select") return spec.choices?.[value as number] ?? "";
  return String(value);
}

/** The address's query with this figure's settings in the place of those it had. */
export function write(
  query: string,
  key: string,
  specs: ControlSpec[],
  now: Controls,
  start: Controls,
): string {
  const kept = [...new URLSearchParams(query)].filter(([name]) => !name.startsWith(`${key}.`));
  const made = new URLSearchParams(kept);
  for (const [name, value] of Object.entries(now)) {
    if (value === start[name]) continue;
    made.append(`${key}.${name}`, plain(specs.find((each) => each.name === name), value));
  }
  const text = made.toString();
  return text && `?${text}`;
}
