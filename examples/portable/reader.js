/* Reads what `python -m charrnn export MODEL --to json` writes, in a browser or node, with nothing
 * else: reader.py in JavaScript. docs/export.md describes the format.
 *
 *     const model = new CharRNN(text);               // of the file
 *     model.write("Tyr", { temperature: 0.8 });      // a name
 */
"use strict";

class CharRNN {
  constructor(text) {
    const about = JSON.parse(text);
    if (!about || about.charrnn !== 1) {
      throw new Error("not a file that `python -m charrnn export --to json` wrote");
    }
    this.about = about;
    this.symbols = about.symbols;
    this.ids = new Map(about.symbols.map((symbol, id) => [symbol, id]));
    this.arrays = {};
    for (const [name, entry] of Object.entries(about.arrays)) {
      this.arrays[name] = {
        columns: entry.shape[entry.shape.length - 1],
        numbers: unpacked(entry.data, entry.type),
        scales: entry.scales ? unpacked(entry.scales, "float32") : null,
      };
    }
  }

  /** The state before the first symbol: zeros, by layer and part (h, and of an LSTM c). */
  start() {
    const { cell, num_layers: layers, hidden_size: size } = this.about;
    const parts = cell === "lstm" ? 2 : 1;
    return Array.from({ length: layers }, () =>
      Array.from({ length: parts }, () => new Float64Array(size)));
  }

  /** Read a symbol: the logits of the next one, and the new state. */
  step(id, state) {
    const a = this.arrays;
    let x = null;
    const after = state.map((before, n) => {
      const U = a[`layers.${n}.U`];
      const read = plus(x ? product(x, U) : row(U, id), a[`layers.${n}.b`].numbers);
      const carried = product(before[0], a[`layers.${n}.W`]);
      const parts = this.cell(n, read, carried, before);
      x = parts[0];
      return parts;
    });
    return { logits: plus(product(x, a["out.V"]), a["out.c"].numbers), state: after };
  }

  /** One layer: what is read and what is carried, by gate (LSTM i f o g, GRU r z n). */
  cell(n, a, p, before) {
    const H = before[0].length;
    const h = new Float64Array(H);
    const c = new Float64Array(this.about.cell === "lstm" ? H : 0);
    for (let k = 0; k < H; k++) {
      const gate = (g) => sigmoid(a[g * H + k] + p[g * H + k]);
      if (this.about.cell === "rnn") {
        h[k] = Math.tanh(a[k] + p[k]);
      } else if (this.about.cell === "lstm") {
        c[k] = gate(1) * before[1][k] + gate(0) * Math.tanh(a[3 * H + k] + p[3 * H + k]);
        h[k] = gate(2) * Math.tanh(c[k]);
      } else {
        const q = p[2 * H + k] + this.arrays[`layers.${n}.b_h`].numbers[k];
        const z = gate(1);
        h[k] = (1 - z) * Math.tanh(a[2 * H + k] + gate(0) * q) + z * before[0][k];
      }
    }
    return c.length ? [h, c] : [h];
  }

  /** The logits and the state after the start symbol and a text. */
  read(text) {
    let at = this.step(this.about.start, this.start());
    for (const symbol of this.matched(text)) {
      const id = this.ids.has(symbol) ? this.ids.get(symbol) : this.about.unknown;
      if (id === null || id === this.about.end) {
        throw new Error(`character ${JSON.stringify(symbol)} is unknown to this model`);
      }
      at = this.step(id, at.state);
    }
    return at;
  }

  /** A text as the model reads it. */
  matched(text) {
    const whole = text.normalize("NFC");
    return this.about.case === "keep" ? whole : whole.toLowerCase().normalize("NFC");
  }

  /** A text that begins with `seed`, until its end symbol, `stop` or `maxLength` characters.
   * `chance` gives numbers from 0 up to 1, one for each character. */
  write(seed = "", { temperature = 1, maxLength = 0, stop = "", chance = Math.random } = {}) {
    let at = this.read(seed);
    const written = [...this.matched(seed)];
    const seeded = written.join("").length;
    while (written.length < (maxLength || this.about.max_length)) {
      const never = written.length ? [this.about.unknown] : [this.about.unknown, this.about.end];
      const id = drawn(at.logits, temperature, never, chance());
      if (id === this.about.end) break;
      written.push(this.symbols[id]);
      const text = written.join("");
      if (stop && text.slice(seeded).endsWith(stop)) {
        return capitals(text.slice(0, text.length - stop.length), this.about.case);
      }
      at = this.step(id, at.state);
    }
    return capitals(written.join(""), this.about.case);
  }
}

/** The numbers in base64, little-endian. */
function unpacked(text, type) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  if (type === "int8") return new Int8Array(bytes.buffer);
  const view = new DataView(bytes.buffer);
  if (type === "float32") {
    return Float32Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true));
  }
  return Float32Array.from({ length: bytes.length / 2 }, (_, k) => half(view.getUint16(2 * k, true)));
}

/** A finite float16 from its bits. */
function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
}

function row(matrix, i) {
  const { columns, numbers, scales } = matrix;
  return Float64Array.from({ length: columns }, (_, j) =>
    numbers[i * columns + j] * (scales ? scales[j] : 1));
}

/** x times a matrix. */
function product(x, { columns, numbers, scales }) {
  const sums = new Float64Array(columns);
  for (let i = 0; i < x.length; i++) {
    for (let j = 0, k = i * columns; j < columns; j++, k++) sums[j] += x[i] * numbers[k];
  }
  return scales ? sums.map((sum, j) => sum * scales[j]) : sums;
}

function plus(a, b) {
  return a.map((value, k) => value + b[k]);
}

function sigmoid(x) {
  return 0.5 + 0.5 * Math.tanh(0.5 * x);
}

/** An id by its probability; the likeliest at temperature 0, and the first of those. */
function drawn(logits, temperature, never, chance) {
  const able = [...logits.keys()].filter((id) => !never.includes(id));
  const best = able.reduce((one, other) => (logits[other] > logits[one] ? other : one));
  if (!temperature) return best;
  const weights = able.map((id) => Math.exp((logits[id] - logits[best]) / temperature));
  let left = chance * weights.reduce((sum, weight) => sum + weight);
  for (let k = 0; k < able.length; k++) {
    left -= weights[k];
    if (left < 0) return able[k];
  }
  return best;
}

/** A text as people write it: a capital first, or with `title` for each word. */
function capitals(text, rule) {
  const word = "[\\p{L}\\p{N}_]";
  const starts = { sentence: `^${word}`, title: `(?<![^\\s-])${word}` }[rule];
  if (!starts) return text;
  return text.replace(new RegExp(starts, "u" + (rule === "title" ? "g" : "")), (letter) => {
    const capital = letter.toUpperCase();
    return [...capital].length === 1 ? capital : letter;
  });
}

if (typeof module === "object") module.exports = { CharRNN };
