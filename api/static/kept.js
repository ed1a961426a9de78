// The names that were kept: in this browser, in an order of one's own, and as files and links.
//
// A name is kept with what it takes to have it again: model, version, settings, random seed, and
// which of that draw's names it was. A link holds that and the names themselves.

import { announce, copy, element, iconButton, notice, one } from "./dom.js";

const PLACE = "charrnn.kept";
const MOST = 500;

let entries = read();
let changed = () => {};

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each?.text === "string") : [];
  } catch {
    return []; // no storage, or not ours
  }
}

function write() {
  try {
    localStorage.setItem(PLACE, JSON.stringify(entries));
  } catch {
    notice("This browser keeps nothing: the list ends with the page.", 4);
  }
  show();
  changed();
}

const same = (a, b) => a.text === b.text && a.model === b.model;
export const isKept = (entry) => entries.some((each) => same(each, entry));

export function keep(...more) {
  const fresh = more.filter((entry) => !isKept(entry)).slice(0, MOST - entries.length);
  entries = [...entries, ...fresh];
  if (fresh.length) announce(`kept: ${fresh.map((each) => each.text).join(", ")}`);
  write();
}

export function forget(entry) {
  entries = entries.filter((each) => !same(each, entry));
  announce(`${entry.text} is no longer kept`);
  write();
}

function move(from, to) {
  if (to < 0 || to >= entries.length || from === to) return;
  const [entry] = entries.splice(from, 1);
  entries.splice(to, 0, entry);
  write();
  announce(`${entry.text}, place ${to + 1} of ${entries.length}`);
}

function show() {
  const list = one("#kept");
  const rows = entries.map((entry, k) => {
    const shift = (by) => () => {
      move(k, k + by);
      const row = list.children[Math.max(0, Math.min(k + by, entries.length - 1))];
      const button = row.querySelectorAll("button")[by < 0 ? 0 : 1];
      (button.disabled ? row.querySelectorAll("button")[by < 0 ? 1 : 0] : button).focus();
    };
    const up = iconButton("up", `${entry.text}: up`, shift(-1));
    const down = iconButton("down", `${entry.text}: down`, shift(1));
    up.disabled = k === 0;
    down.disabled = k === entries.length - 1;
    const remove = iconButton("remove", `Forget ${entry.text}`, () => {
      forget(entry);
      (list.children[Math.min(k, entries.length - 1)]?.querySelector("button:last-child") ?? one("#seed")).focus();
    });
    return element("li", {
      draggable: "true",
      ondragstart: (event) => event.dataTransfer.setData("text/plain", String(k)),
      ondragover: (event) => { event.preventDefault(); event.currentTarget.classList.add("over"); },
      ondragleave: (event) => event.currentTarget.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); move(Number(event.dataTransfer.getData("text/plain")), k); },
    }, element("span", {}, entry.text), up, down, remove);
  });
  list.replaceChildren(...rows);
  one("#kept-count").textContent = entries.length ? String(entries.length) : "";
  one("#kept-none").hidden = entries.length > 0;
  one("#kept-tools").hidden = entries.length === 0;
}

const FORMS = {
  txt: ["text/plain", () => entries.map((each) => each.text).join("\n") + "\n"],
  csv: ["text/csv", () => {
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    const row = (each) => [each.text, each.model, each.version, each.random_seed, each.index,
      each.settings?.temperature, each.settings?.seed];
    const rows = [["name", "model", "version", "random_seed", "index", "temperature", "seed"], ...entries.map(row)];
    return rows.map((cells) => cells.map(quoted).join(",")).join("\r\n") + "\r\n";
  }],
  json: ["application/json", () => JSON.stringify(entries, null, 2) + "\n"],
};

function download(form) {
  const [type, content] = FORMS[form];
  const address = URL.createObjectURL(new Blob([content()], { type }));
  element("a", { href: address, download: `names.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Names by the draw that they came from: [model, version, settings, random seed, [[index, text], …]].
export function packed(list) {
  const draws = new Map();
  for (const { model, version, settings, random_seed, index, text } of list) {
    const head = [model, version, settings, random_seed];
    const name = JSON.stringify(head);
    if (!draws.has(name)) draws.set(name, [...head, []]);
    draws.get(name)[4].push([index, text]);
  }
  const bytes = new TextEncoder().encode(JSON.stringify([...draws.values()]));
  const letters = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return letters.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// What `packed` made, as entries; null where it is something else.
export function unpacked(letters) {
  try {
    const binary = atob(letters.replaceAll("-", "+").replaceAll("_", "/"));
    const draws = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(binary, (c) => c.charCodeAt(0))));
    const found = draws.flatMap(([model, version, settings, random_seed, names]) =>
      names.map(([index, text]) => ({ text, model, version, settings, random_seed, index })));
    const isFit = (each) => [each.text, each.model, each.version].every((part) => typeof part === "string" && part.length <= 1000)
      && Number.isInteger(each.index) && each.index >= 0 && each.index < 100
      && Number.isInteger(each.random_seed) && typeof each.settings === "object" && each.settings !== null;
    return found.length && found.length <= MOST && found.every(isFit) ? found : null;
  } catch {
    return null;
  }
}

export function start(onChange) {
  changed = onChange;
  show();
  for (const button of document.querySelectorAll("[data-export]")) {
    button.addEventListener("click", () => download(button.dataset.export));
  }
  one("#kept-copy").addEventListener("click", () => copy(entries.map((each) => each.text).join("\n"), "Copied."));
  one("#kept-link").addEventListener("click", () =>
    copy(`${location.origin}${location.pathname}#kept=${packed(entries)}`, "A link to these names was copied."));
  one("#kept-clear").addEventListener("click", () => {
    const before = entries;
    entries = [];
    write();
    const back = element("button", { type: "button", class: "quiet", onclick: () => { entries = before; write(); back.remove(); } }, "Bring them back");
    one("#kept-none").after(back);
    back.focus();
    setTimeout(() => back.remove(), 15000);
  });
  addEventListener("storage", (event) => { // another tab
    if (event.key === PLACE) {
      entries = read();
      show();
      changed();
    }
  });
}
