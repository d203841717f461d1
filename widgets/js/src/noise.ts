// The hash of `noise.py`: a draw's numbers follow from the figure's seed, from which draw it is, and
// from their indices. 64-bit arithmetic on pairs of 32-bit halves: BigInt would take far longer.

const MASK = (1n << 64n) - 1n;
const STEP = 0x9e3779b97f4a7c15n;
const FIRST = 0xbf58476d1ce4e5b9n;
const SECOND = 0x94d049bb133111ebn;
const STRIDES = [
  0xd1342543de82ef95n,
  0xaf251af3b0f025b5n,
  0xb564ef22ec7aece5n,
  0xf7c2ebc08f67f2b5n,
  0xc6a4a7935bd1e995n,
  0x8cb92ba72f3d8dd7n,
  0xe7037ed1a0b428dbn,
];
const LARGEST = 1 - 2 ** -53;
const LARGEST_SINGLE = 1 - 2 ** -24;

function mixed(state: bigint): bigint {
  state = ((state ^ (state >> 30n)) * FIRST) & MASK;
  state = ((state ^ (state >> 27n)) * SECOND) & MASK;
  return state ^ (state >> 31n);
}

/** A 64-bit number for a draw, counted from 1. */
export function key(seed: number, draw: number): bigint {
  return mixed((mixed((BigInt(seed) * STEP) & MASK) + BigInt(draw) * STEP) & MASK);
}

const high = (n: bigint) => Number(n >> 32n);
const low = (n: bigint) => Number(n & 0xffffffffn);
const [F1, F0, S1, S0] = [high(FIRST), low(FIRST), high(SECOND), low(SECOND)];

/** The bits above 32 of the product of two numbers of 32 bits. */
function carried(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  return a1 * b1 + Math.floor(middle / 65536) + ((a0 * b1 + (middle & 0xffff)) / 65536 >>> 0);
}

/** A uniform number in (0, 1) out of a state. */
function uniformOf(h: number, l: number): number {
  // state ^= state >> 30
  let nl = l ^ ((l >>> 30) | (h << 2));
  let nh = h ^ (h >>> 30);
  l = Math.imul(nl, F0);
  h = (carried(nl >>> 0, F0) + Math.imul(nh, F0) + Math.imul(nl, F1)) | 0;
  // state ^= state >> 27
  nl = l ^ ((l >>> 27) | (h << 5));
  nh = h ^ (h >>> 27);
  l = Math.imul(nl, S0);
  h = (carried(nl >>> 0, S0) + Math.imul(nh, S0) + Math.imul(nl, S1)) | 0;
  // state ^= state >> 31, then the upper 53 bits
  nl = l ^ ((l >>> 31) | (h << 1));
  nh = h ^ (h >>> 31);
  return Math.min(((nh >>> 0) * 2 ** 21 + (nl >>> 11) + 0.5) * 2 ** -53, LARGEST);
}

/** Calls `put` with the place and the uniform number of every entry. */
function each(
  seed: number,
  draw: number,
  shape: readonly number[],
  put: (place: number, uniform: number) => void,
): void {
  if (shape.length > STRIDES.length) throw new Error(`A draw of ${shape.length} dimensions.`);
  const rows = shape.length ? shape.at(-1)! : 1;
  const stride = shape.length ? STRIDES[shape.length - 1]! : 0n;
  const [sh, sl] = [high(stride), low(stride)];
  const outer = shape.slice(0, -1);
  const index = outer.map(() => 0);
  const many = outer.reduce((a, b) => a * b, 1);
  const start = key(seed, draw);
  let place = 0;
  for (let i = 0; i < many; i++) {
    let state = start;
    for (const [d, at] of index.entries()) state += BigInt(at + 1) * STRIDES[d]!;
    let [h, l] = [high(state & MASK), low(state & MASK)];
    for (let row = 0; row < rows; row++) {
      if (shape.length) {
        const sum = l + sl;
        l = sum >>> 0;
        h = (h + sh + (sum > 0xffffffff ? 1 : 0)) >>> 0;
      }
      put(place++, uniformOf(h, l));
    }
    for (let d = outer.length - 1; d >= 0; d--) {
      if (++index[d]! < outer[d]!) break;
      index[d] = 0;
    }
  }
}

/** Base noise of one draw: `kind` is "normal" or "uniform". */
export function numbers(
  seed: number,
  draw: number,
  kind: string,
  shape: readonly number[],
  dtype: string,
): Float32Array | Float64Array {
  const size = shape.reduce((a, b) => a * b, 1);
  const made = dtype === "float64" ? new Float64Array(size) : new Float32Array(size);
  const most = dtype === "float64" ? LARGEST : LARGEST_SINGLE;
  if (kind === "normal") each(seed, draw, shape, (i, u) => (made[i] = normal(u)));
  else each(seed, draw, shape, (i, u) => (made[i] = Math.min(u, most)));
  return made;
}

const CENTRE = [
  [3.3871328727963666, 133.14166789178438, 1971.5909503065514, 13731.693765509461,
   45921.95393154987, 67265.7709270087, 33430.57558358813, 2509.0809287301227],
  [1, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597,
   39307.89580009271, 28729.085735721943, 5226.495278852854],
] as const; // prettier-ignore
const SHOULDER = [
  [1.4234371107496836, 4.630337846156545, 5.769497221460691, 3.6478483247632045,
   1.2704582524523684, 0.2417807251774506, 0.022723844989269184, 0.0007745450142783414],
  [1, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008,
   0.015198666563616457, 0.0005475938084995345, 1.0507500716444169e-9],
] as const; // prettier-ignore
const TAIL = [
  [6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487,
   0.026532189526576124, 0.0012426609473880784, 0.000027115555687434876, 2.0103343992922881e-7],
  [1, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133,
   0.000018463183175100548, 1.421511758316446e-7, 2.0442631033899397e-15],
] as const; // prettier-ignore

function ratio([above, below]: readonly (readonly number[])[], x: number): number {
  let [a, b] = [0, 0];
  for (let i = 7; i >= 0; i--) {
    a = a * x + above![i]!;
    b = b * x + below![i]!;
  }
  return a / b;
}

/**
 * The standard normal number below which a share `u` lies (Wichura, 1988, algorithm AS 241), from
 * 2u − 1, as Python has it.
 */
function normal(u: number): number {
  const q = (2 * u - 1) / 2;
  if (Math.abs(q) <= 0.425) return q * ratio(CENTRE, 0.180625 - q * q);
  const r = Math.sqrt(-Math.log(0.5 - Math.abs(q)));
  const x = r <= 5 ? ratio(SHOULDER, r - 1.6) : ratio(TAIL, r - 5);
  return q < 0 ? -x : x;
}
