// What the network expects after each letter, and what its hidden units hold.

import { Problem, ask } from "./ask.js";
import { announce, bars, drawing, element, later, one, symbolName } from "./dom.js";

const TYPING = 120, SHOWN = 6;

let card = null;
let running = null;
let found = null; // the last answer
let unit = null;
let at = -1; // the place whose units are shown; -1: the last one

export function use(chosen) {
  card = chosen;
  unit = null;
  one("#unit").max = card.hidden_size - 1;
  one("#layer").max = card.num_layers;
  one("#layer").value = card.num_layers;
  one("#layer-label").hidden = card.num_layers === 1;
  found = null;
}

export function look(text) {
  if (text !== undefined) one("#inside-text").value = text;
  return read();
}

async function read(isTyped = false) {
  if (!card) return;
  running?.abort();
  const { signal } = (running = new AbortController());
  const request = {
    model: card.name,
    text: one("#inside-text").value,
    expected: SHOWN,
    layer: Math.trunc(Number(one("#layer").value)) || card.num_layers,
    ...(unit === null ? {} : { units: [unit] }),
  };
  let answer;
  try {
    answer = await ask("inspect", request, { signal });
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    one("#inside-problem").textContent = error.message;
    one("#inside-text").setAttribute("aria-invalid", "true");
    return;
  }
  one("#inside-problem").textContent = "";
  one("#inside-text").setAttribute("aria-invalid", "false");
  if (isTyped || !found || found.steps.length !== answer.steps.length) at = -1;
  found = answer;
  if (unit === null) unit = answer.interesting[0]?.unit ?? answer.units[0]?.unit ?? 0;
  if (!answer.units.some((each) => each.unit === unit)) return void (await read(isTyped));
  show();
  if (isTyped) {
    const [best] = answer.steps.at(-1).expected;
    announce(`next: ${best.symbol === "\n" ? "the end" : symbolName(best.symbol)}, ${Math.round(best.probability * 100)}%`);
  }
}

const isOfWords = () => card.unit === "word";
const place = () => (at < 0 ? found.steps.length - 1 : Math.min(at, found.steps.length - 1));
const shade = (value) => ({ class: value < 0 ? "cold" : "warm", "--a": Math.abs(value).toFixed(3) });

function show() {
  showStrip();
  showUnits();
  showField();
}

function showStrip() {
  const chosen = place();
  one("#strip").classList.toggle("words", isOfWords());
  const held = document.activeElement?.closest?.(".place") !== null;
  one("#strip").replaceChildren(...found.steps.map((step, k) => {
    const next = found.steps[k + 1]?.symbol;
    const label = step.symbol === "" ? "start" : symbolName(step.symbol);
    return element("button", {
      type: "button", class: "place", "aria-pressed": String(k === chosen),
      onclick: () => { at = k; show(); },
    }, element("b", step.symbol === "" ? { class: "quiet" } : {}, step.symbol === "" ? "·" : label,
      step.symbol === "" ? element("span", { class: "hidden" }, "before the first letter") : null),
    spans(step.expected, next));
  }));
  if (held) one("#strip").children[chosen]?.focus();
}

// The bars of a place; a button holds no list.
function spans(expected, next) {
  const list = bars(expected, next);
  const made = element("span", { class: "bars" });
  made.append(...[...list.children].flatMap((row) => [...row.children].map((part) => {
    if (row.classList.contains("drawn")) part.classList.add("drawn");
    return part;
  })));
  return made;
}

function showUnits() {
  const about = found.interesting.filter((each) => each.unit === unit);
  one("#unit-title").textContent = `Unit ${unit}`;
  one("#unit").value = unit;
  one("#units").replaceChildren(...found.interesting.map((each) =>
    element("button", { type: "button", "aria-pressed": String(each.unit === unit), onclick: () => choose(each.unit) }, each.feature)));
  const letters = found.steps.slice(1).map((step) =>
    element("span", { ...shade(step.activations[unit]), title: step.activations[unit].toFixed(2) }, symbolName(step.symbol)));
  one("#coloured").replaceChildren(...(isOfWords() ? letters.flatMap((word) => [word, " "]) : letters));
  one("#unit-words").textContent = about.length
    ? about.map((each) => `goes with ${each.feature} (r = ${each.correlation.toFixed(2).replace("-", "−")} on names that the search had not seen)`).join("; ") + "."
    : "no feature that was looked for goes with it best.";
  showGates();
}

// A small chart for each gate and part, letter by letter; as wide as there is room, so that labels
// keep their size.
function showGates() {
  const own = found.units.find((each) => each.unit === unit);
  if (!own) return;
  const charts = { ...own.parts, ...own.gates };
  const width = Math.min(520, one("#gates").clientWidth || 520), left = 60, height = 54, steps = found.steps.length;
  const x = (k) => left + ((width - left - 8) * k) / Math.max(1, steps - 1);
  const names = Object.keys(charts);
  const total = names.length * height + 22;
  const parts = names.flatMap((name, row) => {
    const isGate = !(name in own.parts) && Math.min(...own.gates[name]) >= 0;
    const top = row * height + 6, room = height - 16;
    const y = (value) => top + room * (isGate ? 1 - value : (1 - Math.max(-1, Math.min(1, value))) / 2);
    const line = charts[name].map((value, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    return [
      drawing("path", { class: "axis", d: `M${left} ${y(0).toFixed(1)}H${width - 8}` }),
      Object.assign(drawing("text", { class: "one", x: 14, y: top + room / 2 + 4 }), { textContent: name }),
      Object.assign(drawing("text", { x: 42, y: top + 5 }), { textContent: "1" }),
      Object.assign(drawing("text", { x: 42, y: top + room + 4 }), { textContent: isGate ? "0" : "−1" }),
      drawing("path", { class: "line", d: line }),
    ];
  });
  const isTight = x(1) - left < 9;
  const letters = found.steps.slice(1).map((step, k) =>
    Object.assign(drawing("text", { class: isTight ? "one tight" : "one", x: x(k + 1), y: total - 4 }), { textContent: symbolName(step.symbol) }));
  const words = `${Object.keys(own.parts).join(", ")}: its state. ${Object.keys(own.gates).join(", ")}: its gates.`;
  one("#gates").replaceChildren(
    element("figcaption", {}, words),
    drawing("svg", { viewBox: `0 0 ${width} ${total}`, role: "img", "aria-label": `State and gates of unit ${unit} along the text` }, ...parts, ...letters),
  );
}

function showField() {
  const chosen = place(), step = found.steps[chosen];
  one("#units-after").textContent = step.symbol === "" ? "before the first letter" : `after “${found.steps.slice(1, chosen + 1).map((each) => each.symbol).join("")}”`;
  one("#field").replaceChildren(...step.activations.map((value, k) => {
    const made = element("i", { ...shade(value), title: `unit ${k}: ${value.toFixed(2)}`, "data-unit": k });
    if (k === unit) made.classList.add("chosen");
    return made;
  }));
}

function choose(next) {
  unit = Math.max(0, Math.min(Math.trunc(next), card.hidden_size - 1));
  read();
}

export function start() {
  one("#inside-text").addEventListener("input", later(() => read(true), TYPING));
  one("#unit").addEventListener("change", () => choose(Number(one("#unit").value) || 0));
  one("#layer").addEventListener("change", () => { unit = null; read(); });
  one("#field").addEventListener("click", (event) => {
    if (event.target.dataset.unit) choose(Number(event.target.dataset.unit));
  });
}
