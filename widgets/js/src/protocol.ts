// What a figure and the place that computes for it say to each other. The kernel speaks this today;
// whatever computes in a page without a kernel will speak it too, and nothing else in here will
// notice.

export type Wire = number | boolean | string | null;
export type Controls = Record<string, Wire>;

export interface ControlSpec {
  name: string;
  label: string;
  kind: "range" | "number" | "check" | "select" | "text";
  initial: Wire;
  low?: number;
  high?: number;
  step?: number | null;
  /** Equal ways along the slider are equal factors; `step` is the least of these. */
  log?: boolean;
  whole?: boolean;
  choices?: string[];
  /** Labels of other controls' choices for which this one is shown. */
  when?: Record<string, string[]>;
  /** A button moves it from one end to the other. */
  play?: boolean;
  /** Another choice is another picture: the axes are fitted to it. */
  refit?: boolean;
  /** It cannot be moved here. */
  fixed?: boolean;
}

export interface Words {
  title: string;
  caption: string;
  alt: string;
  random: boolean;
  seed: number;
}

export type Row = Record<string, number | boolean>;
export type Tables = Map<string, Row[]>;

/** Where a picture belongs: newer ones have larger serials. */
interface Stamp {
  serial: number;
  controls: Controls;
  seed: number;
}

export interface Picture extends Stamp {
  kind: "picture";
  first: boolean;
  tables: Tables;
  remarks: string[];
}

export interface Trouble extends Stamp {
  kind: "trouble";
  text: string;
  where: string;
}

export interface Notice {
  kind: "notice";
  text: string;
}

/** The request was heard; its answer takes its time. */
export interface Working {
  kind: "working";
}

/** The computing place is gone for good (until it is started anew). */
export interface Gone {
  kind: "gone";
  text: string;
}

export type Answer = Picture | Trouble | Notice | Working | Gone;

/** Computes pictures for the present controls, whenever these change. */
export interface Source {
  /** Hear every answer; returns how to stop. */
  listen(hear: (answer: Answer) => void): () => void;
  /** Ask for the first picture and the present one. */
  hello(): void;
  /** What to say when no answer comes. */
  readonly silence: string;
}

/** The part of a widget's model that a figure uses. */
export interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, hear: (...args: any[]) => void): void;
  off(event: string, hear: (...args: any[]) => void): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  widget_manager?: unknown;
}

export interface Head {
  name: string;
  rows: number;
  columns: { name: string; dtype: "<f4" | "<f8"; boolean?: boolean }[];
}

/** Rows out of columns that came as little-endian buffers. */
export function unpack(heads: Head[], buffers: DataView[]): Tables {
  const tables: Tables = new Map();
  let next = 0;
  for (const { name, rows, columns } of heads) {
    const made: Row[] = Array.from({ length: rows }, () => ({}));
    for (const { name: column, dtype, boolean } of columns) {
      const data = buffers[next++];
      const bytes = dtype === "<f8" ? 8 : 4;
      if (!data || data.byteLength !== rows * bytes) {
        throw new Error(`Column ${name}.${column} did not arrive whole.`);
      }
      for (let row = 0; row < rows; row++) {
        const at = row * bytes;
        const value = dtype === "<f8" ? data.getFloat64(at, true) : data.getFloat32(at, true);
        made[row]![column] = boolean ? value !== 0 : value;
      }
    }
    tables.set(name, made);
  }
  return tables;
}
