// Elements, and what is said aloud. Texts only ever become text nodes.

export const one = (selector) => document.querySelector(selector);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function icon(name) {
  return drawing("svg", { class: "icon", "aria-hidden": "true" }, drawing("use", { href: `#i-${name}` }));
}

// A button that shows an icon and is called by its words.
export function iconButton(name, words, act) {
  return element("button", { type: "button", "aria-label": words, title: words, onclick: act }, icon(name));
}

// Said by a screen reader once it has finished what it is saying; never letter by letter.
export function announce(words) {
  one("#live").textContent = words;
}

let closing;
export function notice(words, seconds = 0) {
  const box = one("#notice");
  clearTimeout(closing);
  box.hidden = !words;
  box.firstElementChild.textContent = words;
  if (words && seconds) closing = setTimeout(() => notice(""), seconds * 1000);
}

export function later(act, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
}

export const number = (value) => value.toLocaleString("en");
export const percent = (share) => (share < 0.01 ? "<1" : String(Math.round(share * 100))) + "%";
export const symbolName = (symbol) => (symbol === "\n" ? "end" : symbol === " " ? "␣" : symbol);

// A list of symbols with a bar for each one's probability; `drawn` is the one that came.
export function bars(expected, drawn) {
  return element(
    "ol",
    { class: "bars" },
    ...expected.map(({ symbol, probability }) =>
      element(
        "li",
        { class: symbol === drawn ? "drawn" : null },
        element("b", {}, symbol === "\n" ? "■" : symbolName(symbol)),
        element("i", { "--p": probability, "aria-hidden": "true" }),
        element("span", {}, percent(probability)),
      ),
    ),
  );
}

export async function copy(words, said) {
  try {
    await navigator.clipboard.writeText(words);
  } catch { // not a secure context, or not allowed: the old way
    const box = element("textarea", { class: "hidden", "aria-hidden": "true" });
    box.value = words;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  notice(said, 2);
}
