// What a book carries of a figure (written by `publish.py`), and how settings are read with it.
import type { Controls, ControlSpec, Head, Tables, Wire, Words } from "./protocol";
import { written } from "./words";

/** A number, a size's name, or an operation and its parts. */
export type Size = number | string | boolean | [string, ...Size[]];

export interface Input {
  name: string;
  dtype: string;
  shape: Size[];
  /** The control whose value it is, with something added; or else noise: */
  control?: string;
  add?: number;
  draw?: number;
  distribution?: string;
}

export interface Output {
  name: string;
  table: string;
  column: string;
  boolean: boolean;
}

/** One captured graph, and for which settings it is right. */
export interface Program {
  model: string;
  when: Controls;
  sizes: Record<string, { control: string; add: number; least: number }>;
  conditions: Size[];
  inputs: Input[];
  outputs: Output[];
}

/** Answers that were computed while the book was built. */
export interface Grid {
  data: string;
  axes: { control: string; values: Wire[] }[];
  heads: Omit<Head, "rows">[];
  rows: (number[] | null)[];
}

export interface Published {
  version: number;
  spec: Record<string, unknown>;
  controls: ControlSpec[];
  words: Words;
  first: { tables: Head[]; data: string };
  /** The tables that the chart reads. */
  drawn: string[];
  programs: Program[];
  /** Settings at which the function fails, and what it says. */
  failing: { when: Controls; text: string }[];
  grid?: Grid;
  /** Of a figure that needs nothing computed: how it is drawn, and all that it shows. */
  kind?: string;
  state?: unknown;
}

const OPERATIONS: Record<string, (...parts: any[]) => number | boolean> = {
  "+": (...parts: number[]) => parts.reduce((a, b) => a + b, 0),
  "*": (...parts: number[]) => parts.reduce((a, b) => a * b, 1),
  "/": (a: number, b: number) => a / b,
  "//": (a: number, b: number) => Math.floor(a / b),
  "%": (a: number, b: number) => a - b * Math.floor(a / b),
  "**": (a: number, b: number) => a ** b,
  trunc: Math.trunc,
  floor: Math.floor,
  ceil: Math.ceil,
  max: Math.max,
  min: Math.min,
  "<=": (a: number, b: number) => a <= b,
  "<": (a: number, b: number) => a < b,
  "==": (a: number, b: number) => a === b,
  "!=": (a: number, b: number) => a !== b,
  and: (...parts: boolean[]) => parts.every(Boolean),
  or: (...parts: boolean[]) => parts.some(Boolean),
  not: (a: boolean) => !a,
};

export function sizeAt(size: Size, sizes: Record<string, number>): number | boolean {
  if (!Array.isArray(size)) return typeof size === "string" ? sizes[size]! : size;
  const [operation, ...parts] = size;
  return OPERATIONS[operation]!(...parts.map((part) => sizeAt(part, sizes)));
}

/** The sizes of a program at these settings; undefined where it is not right. */
export function sizesOf(program: Program, controls: Controls): Record<string, number> | undefined {
  for (const [name, value] of Object.entries(program.when))
    if (controls[name] !== value) return undefined;
  const sizes: Record<string, number> = {};
  for (const [name, { control, add, least }] of Object.entries(program.sizes)) {
    sizes[name] = (controls[control] as number) + add;
    if (sizes[name]! < least) return undefined;
  }
  return program.conditions.every((each) => sizeAt(each, sizes)) ? sizes : undefined;
}

/** A sentence for every column that holds what cannot be drawn; as `tables.remarks`. */
export function remarks(tables: Tables, drawn: string[]): string[] {
  const said: string[] = [];
  for (const [table, rows] of tables) {
    if (!drawn.includes(table)) continue;
    for (const column of Object.keys(rows[0] ?? {})) {
      const lost = rows.filter((row) => !Number.isFinite(Number(row[column]))).length;
      if (lost)
        said.push(
          `${lost} of ${rows.length} values of ${table}.${column} are not finite numbers and are not drawn.`,
        );
    }
  }
  return said;
}

export interface Accepted {
  value?: Wire;
  word?: string;
}

/** What a control makes of a value from elsewhere; as `Control.from_wire`. */
export function accepted(spec: ControlSpec, sent: unknown): Accepted {
  const { label, kind } = spec;
  if (spec.fixed) return { word: `${label} needs a kernel; it stays as it was.` };
  if (kind === "check")
    return typeof sent === "boolean"
      ? { value: sent }
      : { word: `${label}: ${said(sent)} is neither on nor off; it stays as it was.` };
  if (kind === "text")
    return typeof sent === "string"
      ? { value: sent }
      : { word: `${label}: that is no text; it stays as it was.` };
  if (kind === "select") {
    const many = spec.choices?.length ?? 0;
    return Number.isInteger(sent) && (sent as number) >= 0 && (sent as number) < many
      ? { value: sent as number }
      : {
          word: `${label}: ${said(sent)} is not one of its ${many} choices; it stays as it was.`,
        };
  }
  if (typeof sent !== "number" || Number.isNaN(sent))
    return { word: `${label}: ${said(sent)} is not a number; it stays as it was.` };
  let held = Math.min(Math.max(sent, spec.low ?? -Infinity), spec.high ?? Infinity);
  if (!Number.isFinite(held))
    return { word: `${label}: ${said(sent)} is not a finite number; it stays as it was.` };
  if (spec.whole) held = Math.round(held);
  if (sent < (spec.low ?? -Infinity) || sent > (spec.high ?? Infinity)) {
    const span = `${written(spec.low)} … ${written(spec.high)}`;
    return { value: held, word: `${label}: ${written(sent)} is outside ${span}; held at ${written(held)}.` };
  }
  return { value: held };
}

function said(sent: unknown): string {
  if (sent === null || sent === undefined || sent === "") return "nothing";
  const text = String(sent);
  return `“${text.length > 40 ? `${text.slice(0, 39)}…` : text}”`;
}

export function decoded(text: string): ArrayBuffer {
  const raw = atob(text);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0)).buffer;
}

/** A file's bytes; a compressed one is unpacked, unless the server's own packing was undone. */
export async function fetched(url: string): Promise<ArrayBuffer> {
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`${url.split("/").at(-1)} cannot be had (${reply.status})`);
  const bytes = await reply.arrayBuffer();
  const [a, b] = new Uint8Array(bytes, 0, 2);
  if (a !== 0x1f || b !== 0x8b) return bytes;
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).arrayBuffer();
}
