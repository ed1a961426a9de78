// Names as one types: settings, the running draw, its names, and a list that came with a link.

import { Problem, ask, stream } from "./ask.js";
import { announce, copy, element, iconButton, later, number, one } from "./dom.js";
import { forget, isKept, keep, unpacked } from "./kept.js";
import { Word } from "./word.js";

const TYPING = 140; // milliseconds after the last key before a draw begins
const LARGEST_SEED = 2 ** 31; // of those drawn here: the first name of such a draw comes soonest
const NUMBERS = ["min_length", "max_length", "count", "top_k", "top_p", "random_seed"];
const WORDS = ["ends_with", "contains", "pattern", "exclude_letters"];
const TEXT_LENGTH = { character: 300, word: 100 }, TEXTS = 2; // of running text, where nothing else is said

let card = null; // of the model that writes
let running = null; // the AbortController of the draw
let slots = [];
let goInside = () => {};

class Slot {
  constructor() {
    this.word = new Word();
    this.badge = element("span", { class: "badge" });
    this.keeps = iconButton("keep", "", () => (isKept(this.entry) ? forget(this.entry) : keep(this.entry)));
    this.buttons = {
      copy: iconButton("copy", "", () => copy(this.entry.text, `${this.entry.text} was copied.`)),
      keep: this.keeps,
      more: iconButton("more", "", () => moreLike(this.entry)),
      inside: iconButton("inside", "", () => goInside(this.entry.text)),
    };
    this.acts = element("span", { class: "acts", hidden: true }, ...Object.values(this.buttons));
    this.element = element("li", {}, this.word.element, this.badge, this.acts);
    this.entry = null;
    this.isStale = true;
  }

  // The old name stays, pale, until the new one comes: nothing jumps.
  age() {
    this.isStale = true;
    this.element.classList.add("stale");
  }

  append(piece, entry) {
    if (this.isStale) {
      this.clear();
      this.isStale = false;
    }
    this.word.append(piece);
    this.entry = { ...entry, text: this.word.text };
  }

  clear() {
    this.word.clear();
    this.badge.textContent = "";
    this.acts.hidden = true;
    this.entry = null;
    this.element.classList.remove("stale");
  }

  // The name is whole.
  finish(isReal) {
    this.badge.textContent = isReal ? (card.name === "dinosaurs" ? "already a real dinosaur" : "already in the list") : "";
    const text = this.entry.text;
    const words = { copy: `Copy ${text}`, keep: `Keep ${text}`, more: `More like ${text}`, inside: `Look inside at ${text}` };
    for (const [name, button] of Object.entries(this.buttons)) {
      button.setAttribute("aria-label", words[name]);
      button.title = words[name];
    }
    this.acts.hidden = card.kind !== "names";
    this.mark();
  }

  mark() {
    if (this.entry) this.keeps.setAttribute("aria-pressed", String(isKept(this.entry)));
  }
}

// What is asked for, as the service has it: nothing that was left as it is.
function settings() {
  const form = one("#ask");
  const asked = { seed: form.elements.seed.value, temperature: Number(form.elements.temperature.value) };
  const isText = card.kind !== "names";
  for (const name of NUMBERS) {
    const field = form.elements[name];
    if (field.value !== "") asked[name] = Number(field.value);
  }
  if (isText) {
    asked.count = Math.min(TEXTS, asked.count ?? TEXTS, Number(form.elements.count.max));
    asked.max_length ??= Math.min(TEXT_LENGTH[card.unit] ?? TEXT_LENGTH.character, Number(form.elements.max_length.max),
      Math.floor(Number(form.dataset.characters) / asked.count));
  } else {
    for (const name of WORDS) if (form.elements[name].value !== "") asked[name] = form.elements[name].value;
    if (form.elements.real.checked) asked.novel = false;
  }
  return asked;
}

function place(count) {
  const list = one("#names");
  while (slots.length < count) {
    slots.push(new Slot());
    list.append(slots.at(-1).element);
  }
  for (const slot of slots.splice(count)) slot.element.remove();
  for (const slot of slots) slot.age();
}

function complain(words) {
  one("#seed-problem").textContent = words;
  one("#seed").setAttribute("aria-invalid", String(words !== ""));
}

export async function draw(changes = {}, about = "") {
  if (!card) return;
  running?.abort();
  const { signal } = (running = new AbortController());
  const { count = 1, random_seed = Math.floor(Math.random() * LARGEST_SEED), ...asked } = { ...settings(), ...changes };
  for (const name of Object.keys(asked)) if (asked[name] === null) delete asked[name];
  const request = { model: card.name, ...asked, count, random_seed };
  const entry = { model: card.name, version: card.version, settings: asked, random_seed };
  let summary = null, failure = null;
  one("#names").classList.toggle("long", card.kind !== "names");
  try {
    await stream("generate", { ...request, stream: true }, {
      signal,
      begin: () => { complain(""); place(count); },
      each: (name, data) => {
        const news = JSON.parse(data);
        if (name === "message") slots[news.index].append(news.text, { ...entry, index: news.index });
        else if (name === "done") summary = news;
        else failure = news.detail;
        return name !== "message";
      },
    });
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    complain(error.errors.map((each) => each.message).join("; ") || error.message);
    return;
  }
  finish(summary, failure, about);
  if (card.kind === "names") await shade(signal);
}

function finish(summary, failure, about) {
  if (failure) complain(failure);
  for (const { index, novel } of summary?.samples ?? []) {
    slots[index].entry.version = summary.version;
    slots[index].finish(novel === false);
  }
  for (const slot of slots.filter((each) => each.isStale)) slot.element.remove(); // fewer came
  slots = slots.filter((each) => !each.isStale);
  if (!summary) return;
  const short = summary.shortfall ? ` Fewer than asked for: ${summary.shortfall}.` : "";
  one("#about-run").textContent = `${about ? `${about} ` : ""}Random seed ${summary.random_seed}, version ${summary.version} of ${card.name}.${short}`;
  announce(`${number(slots.length)} ${card.kind === "names" ? "names" : "texts"}: ${slots.map((slot) => slot.entry.text).join(", ")}.${short}`);
}

async function shade(signal) {
  const some = slots.filter((slot) => slot.entry);
  if (!some.length) return;
  const texts = some.map((slot) => slot.entry.text);
  const { scores } = await ask("score", { model: card.name, version: some[0].entry.version, texts, expected: 5 }, { signal, quiet: true })
    .catch((error) => { if (signal.aborted || error instanceof Problem) return { scores: [] }; throw error; });
  if (signal.aborted) return;
  scores.forEach((score, k) => some[k].word.shade(score.symbols, [...some[k].entry.settings.seed].length));
}

// What began and was drawn as this one was: its settings, its random seed, its first letters.
function moreLike(entry) {
  const form = one("#ask");
  const opening = [...entry.text].slice(0, Math.max(2, Math.ceil([...entry.text].length / 3))).join("");
  form.elements.seed.value = opening;
  const set = (name, value) => { form.elements[name].value = value ?? ""; };
  for (const name of WORDS) set(name, entry.settings[name]);
  for (const name of NUMBERS.filter((each) => each !== "count" && each !== "random_seed")) set(name, entry.settings[name]);
  form.elements.temperature.value = entry.settings.temperature;
  form.elements.real.checked = entry.settings.novel === false;
  showTemperature();
  form.elements.seed.focus();
  draw({ random_seed: entry.random_seed }, `Like ${entry.text}: its beginning, its settings, its random seed.`);
}

function showTemperature() {
  const { value } = one("#temperature");
  one("#temperature-value").textContent = Number(value).toFixed(2);
  const words = value < 0.6 ? "by the book" : value < 1.1 ? "in between" : "wild";
  one("#temperature").setAttribute("aria-valuetext", `${value}, ${words}`);
}

// Write with this model from now on, or with none. Returns whether it is another one than before.
export function use(chosen) {
  const isOther = chosen?.name !== card?.name || chosen?.version !== card?.version;
  card = chosen;
  for (const part of ["#ask", "#names", "#legend", "#about-run"]) one(part).hidden = !card;
  if (!card) {
    running?.abort();
    one("#names-title").textContent = "Nobody here writes";
    one("#names-lead").textContent = "No model here has learned from names or from running text: python -m charrnn train my-list.txt makes one.";
    return false;
  }
  const isNames = card.kind === "names";
  const learned = card.trained_on.train, symbol = card.unit === "word" ? "word" : "letter";
  const titles = { dinosaurs: "Dinosaurs that never were" };
  one("#names-title").textContent = titles[card.name] ?? (isNames ? "Names that never were" : "Text that never was");
  one("#names-lead").textContent = isNames
    ? `Dreamed up letter by letter by a network of ${number(card.parameters)} numbers${learned ? ` that has read ${number(learned)} real ones` : ""}.`
    : `Written ${symbol} by ${symbol} by a network of ${number(card.parameters)} numbers that has read ${card.name}.`;
  for (const part of document.querySelectorAll("#ask [data-symbols]")) part.textContent = `${symbol}s`;
  for (const field of document.querySelectorAll("#ask [data-names]")) field.hidden = !isNames;
  one("#legend").hidden = !isNames;
  return isOther;
}

export function start(inside) {
  goInside = inside;
  const form = one("#ask");
  const soon = later(draw, TYPING);
  form.addEventListener("input", () => { showTemperature(); soon(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  form.addEventListener("reset", () => setTimeout(() => { showTemperature(); draw(); }));
  showTemperature();
}

export const mark = () => slots.forEach((slot) => slot.mark());

// A list that came with a link: its names are drawn anew, to see that they are the same.
export async function open(letters) {
  const box = one("#shared"), entries = unpacked(letters);
  box.hidden = false;
  const close = element("button", { type: "button", onclick: () => { box.hidden = true; history.replaceState(null, "", "#names"); } }, "Close");
  if (!entries) {
    box.replaceChildren(element("p", {}, "This link is damaged: its names can't be read."), element("p", { class: "draw" }, close));
    return;
  }
  const verdict = element("p", { class: "quiet small", role: "status" }, "Being drawn again…");
  const list = element("ul", {}, ...entries.map((each) => element("li", {}, each.text)));
  const all = element("button", { type: "button", class: "primary", onclick: () => keep(...entries) }, "Keep them");
  box.replaceChildren(element("h2", {}, `${entries.length === 1 ? "A name" : `${entries.length} names`} from a link`), list, verdict, element("p", { class: "draw" }, all, close));
  verdict.textContent = await redrawn(entries);
}

async function redrawn(entries) {
  const draws = Map.groupBy
    ? Map.groupBy(entries, drawOf)
    : entries.reduce((map, each) => map.set(drawOf(each), [...(map.get(drawOf(each)) ?? []), each]), new Map());
  const gone = new Set();
  let differ = 0;
  for (const some of draws.values()) {
    const { model, version, settings: asked, random_seed } = some[0];
    const count = 1 + Math.max(...some.map((each) => each.index));
    try {
      const { samples } = await ask("generate", { ...asked, model, version, random_seed, count });
      differ += some.filter((each) => samples[each.index]?.text !== each.text).length;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 404 || error.status === 410) gone.add(`version ${version} of ${model}`);
      else differ += some.length;
    }
  }
  if (gone.size) return `The names are as the link has them; ${[...gone].join(", ")} is no longer here to draw them again.`;
  const versions = new Set(entries.map((each) => `${each.model} ${each.version}`));
  if (differ) return `${differ} of them came out otherwise here: another machine may round otherwise. The names are as the link has them.`;
  return `Drawn again from their random seeds, the same to the letter, by ${[...versions].join(", ")}.`;
}

const drawOf = ({ model, version, settings: asked, random_seed }) => JSON.stringify([model, version, asked, random_seed]);
