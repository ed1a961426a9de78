// A conversation with a model of talk, by the interface that OpenAI's clients use.

import { Problem, stream } from "./ask.js";
import { announce, element, one } from "./dom.js";

let model = null;
let turns = []; // {role, content}
let running = null; // {stop, reply}: of the reply that is being written

const temperature = () => one("#chat-temperature");

function showTemperature() {
  one("#chat-temperature-value").textContent = Number(temperature().value).toFixed(2);
}

export function use(cards, chosen) {
  const talkers = cards.filter((card) => card.kind === "chat");
  const next = talkers.find((card) => card.name === chosen) ?? talkers[0] ?? null;
  if (next?.name !== model?.name) reset(next);
  one("#chat-title").textContent = next ? `Talk to ${next.name}` : "Nobody here talks";
  one("#chat-lead").textContent = next
    ? `A network of ${next.parameters.toLocaleString("en")} numbers that has read conversations, and answers letter by letter. It is no oracle.`
    : "No model here has learned from conversations. One that has is trained from a file of talks: docs/chat.md.";
  one("#chat-body").hidden = !next;
}

function reset(next = model) {
  running?.stop.abort();
  running = null;
  model = next;
  turns = [];
  const hint = "Say hello, or ask about a dinosaur.";
  one("#talk").replaceChildren(element("p", { class: "hint" }, hint));
}

function bubble(kind, text) {
  const talk = one("#talk");
  talk.querySelector(".hint")?.remove();
  const made = element("p", { class: kind }, text);
  talk.append(made);
  talk.scrollTop = talk.scrollHeight;
  return made;
}

// Who is interrupted has said what it has said by then.
function interrupt() {
  if (!running) return;
  running.stop.abort();
  turns.push({ role: "assistant", content: running.reply.textContent });
  running = null;
}

async function say(line) {
  interrupt();
  turns.push({ role: "user", content: line });
  bubble("me", line);
  const reply = bubble("it waiting", "");
  const mine = (running = { stop: new AbortController(), reply });
  const { signal } = mine.stop;
  const own = one("#chat-seed").value, length = Number(one("#chat-length").value);
  const request = {
    model: model.name,
    messages: turns.slice(-40),
    stream: true,
    temperature: Number(temperature().value),
    seed: own === "" ? Math.floor(Math.random() * 2 ** 31) : Number(own),
    ...(length ? { max_tokens: length } : {}),
  };
  try {
    await stream("v1/chat/completions", request, {
      signal,
      begin: () => { reply.textContent = ""; }, // cut off: the same seed says the same again
      each: (_, data) => {
        if (data === "[DONE]") return true;
        const news = JSON.parse(data);
        if (news.error) throw new Problem(500, news.error.message, 1);
        const piece = news.choices[0]?.delta?.content ?? "";
        if (piece) reply.classList.remove("waiting");
        reply.append(piece);
        one("#talk").scrollTop = one("#talk").scrollHeight;
        return false;
      },
    });
    turns.push({ role: "assistant", content: reply.textContent });
    announce(`${model.name}: ${reply.textContent}`);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    turns.pop();
    reply.textContent = `(${error.message})`;
    announce(error.message);
  } finally {
    reply.classList.remove("waiting");
    if (running === mine) running = null;
  }
}

export function start() {
  showTemperature();
  temperature().addEventListener("input", showTemperature);
  one("#chat-reset").addEventListener("click", () => { reset(); one("#line").focus(); announce("The conversation begins anew."); });
  one("#say").addEventListener("submit", (event) => {
    event.preventDefault();
    const line = one("#line").value.trim();
    if (!line || !model || running?.reply.textContent === "") return; // it hasn't begun to answer
    one("#line").value = "";
    say(line);
  });
}
