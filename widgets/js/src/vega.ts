// Vega, mended: under rows that come and go for hours, it keeps nothing of those that went.
import * as vega from "vega";

interface Flow {
  value: Record<number, unknown> | undefined;
  transform(given: unknown, pulse: Pulse): Pulse;
}

interface Pulse {
  REM: number;
  cleans?: boolean;
  init(from: Pulse, flags?: number): Pulse;
  visit(kind: number, each: (row: object) => void): Pulse;
}

const { Pulse, tupleid, transforms } = vega as unknown as {
  Pulse: { prototype: Pulse };
  tupleid: (row: object) => number;
  transforms: Record<string, { prototype: Flow }>;
};

// Of changed data Vega asks what comes after them to forget what they were, and the request ends at
// the first operation that copies rows: marks then keep up to 10,000 that are drawn no more.
const { init } = Pulse.prototype;
Pulse.prototype.init = function (from, flags) {
  const made = init.call(this, from, flags);
  if (from.cleans) made.cleans = true;
  return made;
};

// That operation itself keeps the number of every row there ever was.
const relay = transforms["relay"]!.prototype;
const { transform } = relay;
relay.transform = function (given, pulse) {
  const made = transform.call(this, given, pulse);
  if (made !== pulse) pulse.visit(pulse.REM, (row) => delete this.value![tupleid(row)]);
  return made;
};

/** A view that cleans up early where the request does not reach: below groups of marks. */
export function view(spec: vega.Spec, options: vega.ViewOptions): vega.View {
  const made = new vega.View(vega.parse(spec), options);
  (made as unknown as { cleanThreshold: number }).cleanThreshold = 100;
  return made;
}
