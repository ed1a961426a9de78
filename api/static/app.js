// The page: which view is shown, and which model is in use.

import { Problem, ask } from "./ask.js";
import * as chat from "./chat.js";
import { element, notice, one } from "./dom.js";
import * as inside from "./inside.js";
import * as kept from "./kept.js";
import * as models from "./models.js";
import * as names from "./names.js";

const VIEWS = { names: "Names", chat: "Chat", inside: "Inside", models: "Models" };
const CHOSEN = "charrnn.model"; // in localStorage
const LOOK_AGAIN = 60; // seconds after which a page that is looked at again asks for the models

let cards = [], fallback = null, chosen = null, asked = 0;

function remembered() {
  try { return localStorage.getItem(CHOSEN); } catch { return null; }
}

function remember(name) {
  try { localStorage.setItem(CHOSEN, name); } catch { /* it is only a convenience */ }
}

function view() {
  const [name, letters] = location.hash.slice(1).split("=");
  return { name: name === "kept" ? "names" : Object.hasOwn(VIEWS, name) ? name : "names", link: name === "kept" ? letters ?? "" : null };
}

function show() {
  const { name, link } = view();
  for (const each of Object.keys(VIEWS)) {
    one(`#view-${each}`).hidden = each !== name;
    const anchor = one(`nav a[href="#${each}"]`);
    if (each === name) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `charrnn: ${VIEWS[name].toLowerCase()}`;
  if (link !== null) names.open(link);
  if (name === "inside") inside.look();
}

function card(name) {
  return cards.find((each) => each.name === name);
}

// The model that writes: the one in use, or where that one talks, the default or the first that doesn't.
function writer() {
  const writes = (each) => each && each.kind !== "chat";
  return [card(chosen), card(fallback), ...cards].find(writes) ?? null;
}

// Use a model: one of talk in the chat, any other to write; each to look into.
function choose(name, isByHand = true) {
  const found = card(name);
  if (!found) return;
  chosen = name;
  one("#model").value = name;
  if (isByHand) remember(name);
  models.show(cards, chosen, choose);
  chat.use(cards, name);
  inside.use(found);
  if (names.use(writer())) names.draw();
  if (found.kind === "chat") {
    if (location.hash === "" || (isByHand && view().name === "names")) location.hash = "#chat";
  } else if (isByHand && view().name === "chat") location.hash = "#names";
  if (view().name === "inside") inside.look();
}

async function load() {
  const answer = await ask("models");
  asked = Date.now();
  cards = answer.models;
  one("#model").replaceChildren(...cards.map((each) => element("option", { value: each.name }, each.name)));
  fallback = answer.default;
}

// A new version may have gone live while nobody looked.
async function refresh() {
  if (document.hidden || Date.now() - asked < LOOK_AGAIN * 1000) return;
  const before = card(chosen)?.version;
  await load();
  if (!card(chosen)) {
    notice("");
    choose(fallback, false);
  } else if (card(chosen).version !== before) choose(chosen, false);
  else {
    one("#model").value = chosen;
    models.show(cards, chosen, choose);
    if (names.use(writer())) names.draw(); // where the one in use talks
  }
}

async function start() {
  one("#app").hidden = false;
  names.start((text) => {
    one("#inside-text").value = text;
    location.hash = "#inside";
  });
  kept.start(names.mark);
  chat.start();
  inside.start();
  one("#model").addEventListener("change", () => choose(one("#model").value));
  one(".skip").addEventListener("click", (event) => { // its address is no view
    event.preventDefault();
    one("#main").focus();
  });
  addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", () => refresh().catch(tell));
  show();
  await load();
  const first = card(remembered()) ?? card(fallback) ?? cards[0];
  if (first) choose(first.name, false);
  else notice("There is no model here yet: python -m charrnn train my-list.txt makes one.");
}

function tell(error) {
  if (!(error instanceof Problem)) throw error;
  notice(`The models can't be had: ${error.message}.`);
}

start().catch(tell);
