// The cards of the models: what each is, what it learned from, and its history.

import { ask } from "./ask.js";
import { element, number, one } from "./dom.js";

const KINDS = { names: "a list of names", text: "running text", chat: "conversations" };

const day = (stamp) => {
  const date = new Date(stamp);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
};

function learned(card) {
  const { train = 0, validation = 0, test = 0, characters, bytes } = card.trained_on;
  const of = card.kind === "names" ? "names" : card.kind === "chat" ? "conversations" : "blocks of text";
  const held = validation + test ? `, and ${number(validation + test)} more were held back` : "";
  const size = characters ? ` (${number(characters)} characters)` : bytes ? ` (${number(bytes)} bytes)` : "";
  return train ? `${number(train)} ${of}${size}${held}` : KINDS[card.kind] ?? card.kind;
}

function loss(card) {
  const { test, validation } = card.evaluation;
  const found = test ?? validation;
  if (!found) return "not measured";
  const per = card.unit ?? "character";
  return `${found.nats_per_character.toFixed(3)} nats per ${per}: as unsure as among ${Math.exp(found.nats_per_character).toFixed(1)} equal ones`;
}

function history(card) {
  const body = element("div", { class: "history" });
  const box = element("details", {}, element("summary", {}, "History"), body);
  box.addEventListener("toggle", async () => {
    if (!box.open || body.childElementCount) return;
    const { events } = await ask(`models/${card.name}/history`);
    const rows = events.toReversed().map((each) => element("tr", {},
      element("td", {}, day(each.at)), element("td", {}, each.event),
      element("td", {}, element("code", {}, each.version.slice(0, 8))),
      element("td", {}, each.test === null ? "" : each.test.toFixed(3)), element("td", {}, each.reason)));
    const heads = ["When", "What", "Version", "Loss", "Why"].map((head) => element("th", { scope: "col" }, head));
    body.replaceChildren(rows.length
      ? element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))
      : element("p", { class: "quiet" }, "Nothing is written down."));
  });
  return box;
}

export function show(cards, chosen, choose) {
  one("#cards").replaceChildren(...cards.map((card) => {
    const facts = {
      "Learned from": learned(card),
      "Held-out loss": loss(card),
      Network: `${card.cell.toUpperCase()}, ${number(card.hidden_size)} units${card.num_layers > 1 ? ` in each of ${card.num_layers} layers` : ""}, ${number(card.parameters)} numbers`,
      Live: card.promoted_at ? `since ${day(card.promoted_at)}` : "yes",
      Version: card.version,
    };
    const isChosen = card.name === chosen;
    return element("article", { class: "card", "aria-label": card.name },
      element("h2", {}, card.name),
      element("p", { class: "quiet" }, `writes what looks like ${KINDS[card.kind] ?? card.kind}`),
      element("dl", {}, ...Object.entries(facts).flatMap(([name, words]) => [element("dt", {}, name), element("dd", {}, words)])),
      element("button", { type: "button", disabled: isChosen, onclick: () => choose(card.name) }, isChosen ? "In use" : `Use ${card.name}`),
      history(card));
  }));
}
