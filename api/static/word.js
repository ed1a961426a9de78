// A name whose letters are shaded by how sure the network was, and the card that tells what else it
// considered. A name is one button: arrow keys go from letter to letter.

import { bars, element, one, percent } from "./dom.js";

const MOST_NATS = 5; // a letter of this surprise, or more, has the deepest shade

let shown = null; // the word whose card is open

export class Word {
  constructor() {
    this.text = "";
    this.symbols = null; // of the score
    this.at = -1;
    this.element = element("button", {
      type: "button",
      class: "word",
      disabled: true,
      onkeydown: (event) => this.#key(event),
      onpointerover: (event) => event.pointerType === "mouse" && this.#point(event),
      onpointerleave: (event) => event.pointerType === "mouse" && this.close(),
      onclick: (event) => (event.detail ? this.#point(event) : this.show(this.at < 0 ? 0 : -1)),
      onblur: () => this.close(),
    });
  }

  clear() {
    this.close();
    Object.assign(this, { text: "", symbols: null });
    this.element.replaceChildren();
    this.element.disabled = true;
    this.element.removeAttribute("aria-label");
  }

  // The next piece, letter by letter.
  append(piece) {
    const letters = [...piece].map((letter, k) =>
      element("span", { class: "letter fresh", "--wait": Math.min(k, 40) }, letter));
    this.element.append(...letters);
    this.text += piece;
    this.element.disabled = false;
    this.element.setAttribute("aria-label", this.text);
  }

  // Shade it by a score: one for each letter, and one for the end. The first `given` letters were
  // not the network's to choose.
  shade(symbols, given = 0) {
    const letters = this.element.children;
    const count = symbols.filter(({ symbol }) => symbol !== "\n").length;
    if (count !== letters.length) return; // symbols of several letters: no shade is a wrong one
    this.symbols = symbols;
    [...letters].forEach((letter, k) => {
      const doubt = k < given ? 0 : Math.min(1, -symbols[k].logprob / MOST_NATS);
      letter.style.setProperty("--doubt", doubt.toFixed(3));
    });
  }

  show(at) {
    this.element.children[this.at]?.classList.remove("at");
    this.at = at;
    if (at < 0 || !this.symbols) return this.close();
    if (shown && shown !== this) shown.close();
    shown = this;
    const letters = this.element.children;
    letters[at]?.classList.add("at");
    const { symbol, probability, expected } = this.symbols[at];
    const before = [...letters].slice(0, at).map((letter) => letter.textContent).join("");
    const came = at < letters.length ? `“${letters[at].textContent}”` : "the end";
    const listed = expected.some((each) => each.symbol === symbol)
      ? expected : [...expected.slice(0, -1), { symbol, probability }];
    const peek = one("#peek");
    peek.replaceChildren(
      element("p", {}, `${before ? `After “${before}”` : "At the start"}: ${came}, ${percent(probability)}`),
      bars(listed, symbol),
    );
    peek.hidden = false;
    const box = (letters[Math.min(at, letters.length - 1)]).getBoundingClientRect();
    const left = Math.min(box.left - 16, document.documentElement.clientWidth - peek.offsetWidth - 12);
    const below = box.bottom + peek.offsetHeight + 10 < innerHeight || box.top < peek.offsetHeight + 10;
    peek.style.left = `${Math.max(12, left) + scrollX}px`;
    peek.style.top = `${(below ? box.bottom + 8 : box.top - peek.offsetHeight - 8) + scrollY}px`;
    return undefined;
  }

  close() {
    this.element.children[this.at]?.classList.remove("at");
    this.at = -1;
    if (shown === this) {
      shown = null;
      one("#peek").hidden = true;
    }
  }

  #point(event) {
    const at = [...this.element.children].indexOf(event.target);
    if (at >= 0) this.show(at);
  }

  #key(event) {
    const last = (this.symbols?.length ?? 0) - 1;
    const to = {
      ArrowRight: Math.min(this.at + 1, last),
      ArrowLeft: Math.max(this.at - 1, 0),
      Home: 0,
      End: last,
      Escape: -1,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.show(to);
  }
}

