// Requests to the service. What is busy, away or cut off is tried again, and said; the caller only
// sees answers and refusals.

import { notice, one } from "./dom.js";

const KEY = "charrnn.key"; // in sessionStorage: it ends with the tab
const LONGEST_WAIT = 5;

export class Problem extends Error {
  constructor(status, words, wait, errors = []) {
    super(words);
    Object.assign(this, { status, wait, errors });
  }
}

export class Cut extends Error {}

async function send(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { Accept: "application/json, text/event-stream", ...(key ? { Authorization: `Bearer ${key}` } : {}) },
    body: body ? JSON.stringify(body) : undefined,
    signal,
  });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const words = said.detail || said.error?.message || `the service answers ${answer.status}`;
  throw new Problem(answer.status, words, Number(answer.headers.get("Retry-After")) || 1, said.errors);
}

// The words and the seconds to wait before another try; nothing where there is no use.
function hope(error, tries) {
  const wait = Math.min(LONGEST_WAIT, 2 ** Math.min(tries, 4) / 2);
  if (error instanceof Problem) {
    if (error.status === 503 || error.status === 429) return [`The service is busy. It is asked again in ${error.wait} s.`, error.wait];
    if (error.status === 502 || error.status === 504) return ["The service is starting. It is asked again soon.", wait];
    return null;
  }
  if (navigator.onLine === false) return ["You are offline. It goes on by itself when you are back.", wait];
  if (error instanceof Cut) return ["The answer was cut off. It goes on by itself.", 0.3];
  return ["The service doesn't answer; perhaps it is restarting. It goes on by itself.", wait];
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, seconds * 1000);
    addEventListener("online", done);
    signal?.addEventListener("abort", stop);
    function clear() {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", stop);
    }
    function done() { clear(); resolve(); }
    function stop() { clear(); reject(signal.reason); }
  });
}

let asking = null;
function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const form = one("#key");
    form.hidden = false;
    if (wasWrong) form.querySelector("label").textContent = "That key is not a known one. Another?";
    one("#key-text").focus();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, one("#key-text").value.trim());
      form.hidden = true;
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

let waiting = 0; // requests that had to wait, and have said so
async function patiently(attempt, signal, quiet) {
  let hasSaid = false;
  try {
    for (let tries = 0; ; tries += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (signal?.aborted) throw error;
        if (error instanceof Problem && error.status === 401) {
          await askForKey(sessionStorage.getItem(KEY) !== null);
          continue;
        }
        const found = hope(error, tries);
        if (!found) throw error;
        if (!quiet) {
          notice(found[0]);
          waiting += hasSaid ? 0 : 1;
          hasSaid = true;
        }
        await pause(found[1], signal);
      }
    }
  } finally {
    if (hasSaid) waiting -= 1;
    if (hasSaid && waiting === 0) notice("");
  }
}

// An answer in JSON. `quiet`: what isn't worth a word.
export function ask(path, body, { signal, quiet = false } = {}) {
  return patiently(async () => (await send(path, body, signal)).json(), signal, quiet);
}

// A stream of server-sent events: `begin` before each try, `each(name, data)` for every event.
// It is over when `each` returns true; one that ends before is cut off, and asked for again.
export function stream(path, body, { signal, begin = () => {}, each }) {
  return patiently(async () => {
    const answer = await send(path, body, signal);
    begin();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read().catch((error) => {
        throw signal?.aborted ? error : new Cut();
      });
      if (done) throw new Cut();
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(
          block.split("\n").filter((line) => line && !line.startsWith(":")).map((line) => {
            const at = line.indexOf(": ");
            return [line.slice(0, at), line.slice(at + 2)];
          }),
        );
        if ("data" in fields && each(fields.event || "message", fields.data)) return;
      }
    }
  }, signal, false);
}
