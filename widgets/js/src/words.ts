// Numbers and captions in words; the same rules as `captions.py`, which writes them where no page
// is.
import type { Controls, ControlSpec, Tables, Wire } from "./protocol";

// Names as Python has them, in any script.
const PLACE = /\{([\p{L}\p{M}\p{N}_]+)(?:\.([\p{L}\p{M}\p{N}_]+))?(?::\.(\d)f)?\}/gu;

export function written(value: unknown, digits?: number): string {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value !== "number") return String(value ?? "");
  if (Number.isNaN(value)) return "not finite";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  let text: string;
  if (digits !== undefined) text = value.toFixed(digits);
  else if (Number.isInteger(value)) text = String(value);
  else {
    const places = Math.min(100, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value)))));
    text = value.toFixed(places);
    if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  }
  return text.replace("-", "−");
}

/** What a reader sees of a control's value: of choices, the label. */
export function shown(control: ControlSpec, value: Wire): string {
  return control.kind === "select" ? (control.choices?.[value as number] ?? "") : written(value);
}

export function caption(
  template: string,
  specs: ControlSpec[],
  controls: Controls,
  tables: Tables,
): string {
  return template.replace(PLACE, (_, name: string, column?: string, digits?: string) => {
    const places = digits === undefined ? undefined : Number(digits);
    if (column !== undefined) return written(tables.get(name)?.[0]?.[column], places);
    const spec = specs.find((each) => each.name === name);
    const value = controls[name] ?? null;
    return spec && spec.kind !== "range" && spec.kind !== "number"
      ? shown(spec, value)
      : written(value, places);
  });
}
