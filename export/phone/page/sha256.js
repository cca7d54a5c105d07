// SHA-256. Browsers give crypto.subtle to secure pages only, and a page on plain http has to check its files too.

const ROUND_CONSTANTS = rootBits(64, Math.cbrt);
const FIRST_STATE = rootBits(8, Math.sqrt);
const BLOCK_BYTES = 64;

// The hash as 64 hex digits.
export async function sha256Hex(bytes) {
  const subtle = globalThis.crypto?.subtle;
  return hex(subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : sha256Plain(bytes));
}

// The same without the browser's help (FIPS 180-4), as bytes.
export function sha256Plain(bytes) {
  const state = FIRST_STATE.slice();
  const whole = bytes.length - (bytes.length % BLOCK_BYTES);
  const words = new Uint32Array(BLOCK_BYTES);
  for (let start = 0; start < whole; start += BLOCK_BYTES) addBlock(state, words, bytes, start);
  const rest = bytes.length - whole;
  const tail = new Uint8Array(rest < BLOCK_BYTES - 8 ? BLOCK_BYTES : 2 * BLOCK_BYTES);
  tail.set(bytes.subarray(whole));
  tail[rest] = 0x80;
  const view = new DataView(tail.buffer);
  view.setUint32(tail.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(tail.length - 4, (bytes.length << 3) >>> 0);
  for (let start = 0; start < tail.length; start += BLOCK_BYTES) addBlock(state, words, tail, start);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, place) => digest.setUint32(4 * place, word));
  return new Uint8Array(digest.buffer);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function addBlock(state, words, bytes, start) {
  for (let t = 0; t < 16; t += 1) {
    const at = start + 4 * t;
    words[t] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }
  for (let t = 16; t < 64; t += 1) {
    const x = words[t - 15];
    const y = words[t - 2];
    const small0 = turned(x, 7) ^ turned(x, 18) ^ (x >>> 3);
    const small1 = turned(y, 17) ^ turned(y, 19) ^ (y >>> 10);
    words[t] = words[t - 16] + small0 + words[t - 7] + small1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = 0; t < 64; t += 1) {
    const large1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const first = (h + large1 + ((e & f) ^ (~e & g)) + ROUND_CONSTANTS[t] + words[t]) | 0;
    const large0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const second = (large0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, place) => { state[place] += word; });
}

function turned(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}

// The first 32 bits behind the point of the roots of the first primes.
function rootBits(count, root) {
  const primes = [];
  for (let number = 2; primes.length < count; number += 1) {
    if (primes.every((prime) => number % prime)) primes.push(number);
  }
  return Uint32Array.from(primes, (prime) => (root(prime) % 1) * 2 ** 32);
}
