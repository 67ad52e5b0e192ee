// Has the server write an answer, and keeps what there is of it, so that a reload or a cut loses little.

import { readEvent, requestFor } from "./request.js";
import { Failure, stream } from "./server.js";
import { emit, notice, state } from "./state.js";
import { session } from "./storage.js";
import * as store from "./store.js";
import { before } from "./tree.js";

export const CLOSED = "The page was closed while the answer was written.";

const SAVE_EVERY = 1000; // milliseconds
const TELL_EVERY = 15;
const MANY = 2000; // tokens, to save which takes a while
const tab = tabId();
let leaving = false; // the page is about to be closed, for which browsers cut off its answers first
window.addEventListener("beforeunload", () => (leaving = true));
let failing = false; // whether what was saved last could not be
const known = new Map(); // tokens by the id of their message, of those that were looked at or written

/** The tokens of a message; empty where none are known. */
export async function tokensOf(node) {
  if (!known.has(node.id)) known.set(node.id, (await store.tokensOf(node).catch(() => null)) ?? []);
  return known.get(node.id);
}

export async function keepTokens(talk, node, tokens) {
  known.set(node.id, tokens);
  await store.saveTokens(talk, node, tokens);
}

/** Those of messages that others write are read again. */
export function forgetTokens(nodes) {
  for (const node of nodes) known.delete(node.id);
}

/** Save a conversation, unless it was deleted; says so where that fails, once until it goes well again. */
export async function save(talk) {
  if (!state.talks.has(talk.id)) return;
  try {
    await store.saveTalk(talk);
    failing = false;
  } catch (error) {
    if (!failing) notice(`The conversation could not be saved: ${error.message}`);
    failing = true;
  }
}

/** End the answer that is written in a conversation, if there is one. */
export function stop(talk) {
  state.writing.get(talk.id)?.stop.abort();
}

/** Let the server write `node`, or go on with it. Never throws: what goes wrong is said in the message. */
export async function write(talk, node) {
  const job = { node, stop: new AbortController(), progress: null, waiting: null, rate: 0 };
  state.writing.set(talk.id, job);
  leaving = false;
  const tokens = await tokensOf(node);
  if (node.text && !tokens.length) node.base = node.text.length;
  Object.assign(node, { state: "writing", error: undefined, tab });
  emit("node", node);
  await save(talk);
  let saved = 0;
  const saving = setInterval(() => {
    if (!state.talks.has(talk.id)) return;
    node.beat = Date.now();
    save(talk);
    if (saved === tokens.length || (tokens.length > MANY && tokens.length - saved < MANY / 4)) return;
    saved = tokens.length;
    store.saveTokens(talk, node, tokens).catch(() => {});
  }, SAVE_EVERY);
  try {
    await untilNotBusy(job, () => receive(talk, job, tokens));
  } catch (error) {
    fail(node, error, job.stop.signal.aborted);
    if (job.rate) node.timings = { answer: job.rate };
  }
  clearInterval(saving);
  delete node.tab;
  delete node.beat;
  state.writing.delete(talk.id);
  talk.updated = Date.now();
  emit("node", node);
  emit("talks");
  await save(talk);
  if (tokens.length && state.talks.has(talk.id)) await keepTokens(talk, node, tokens).catch(() => {});
}

/** Whether what was being written when this was saved is not written by anybody any more. */
export function isAbandoned(node) {
  return node.state === "writing" && (node.tab === tab || !(Date.now() - node.beat < 5 * SAVE_EVERY));
}

/** Try again while the server says that it is busy, when it says to. */
async function untilNotBusy(job, attempt) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (error.kind !== "busy") throw error;
      const until = Date.now() + error.seconds * 1000;
      job.waiting = { until, loading: error.loading };
      emit("node", job.node);
      await sleep(error.seconds * 1000, job.stop.signal);
      job.waiting = null;
      emit("node", job.node);
    }
  }
}

async function receive(talk, job, tokens) {
  const { node, stop } = job;
  const { path, body } = requestFor(state.about, talk.settings, before(talk, node), node, state.preferences.chances);
  let ended = null;
  let first = 0;
  let count = 0;
  let telling = 0; // a timer: tokens may come faster than they can be looked at
  for await (const event of stream(path, body, talk.id, stop.signal)) {
    const said = readEvent(event);
    job.progress = said.progress ?? (said.text || said.thought ? null : job.progress);
    if (said.progress) node.usage = { prompt: said.progress.total, cached: said.progress.cached, written: 0 };
    if (said.model) meet(node, said.model);
    if (said.thought) node.thought = (node.thought ?? "") + said.thought;
    if (said.text) node.text += said.text;
    if (said.text || said.thought || said.tokens?.length) {
      tokens.push(...(said.tokens ?? []));
      first ||= performance.now();
      count += said.tokens?.length || 1;
      job.rate = count > 4 ? ((count - 1) * 1000) / (performance.now() - first) : 0;
      if (node.usage) node.usage.written = count;
    }
    if (said.usage) node.usage = said.usage;
    if (said.speed) node.timings = said.speed;
    ended = said.end ?? ended;
    telling ||= setTimeout(() => {
      telling = 0;
      emit("node", node);
    }, TELL_EVERY);
  }
  if (!ended) throw new Failure("cut", "The answer was cut off.");
  if (!count && (node.text || node.thought)) notice("The model has nothing to add.");
  node.state = ended === "length" ? "length" : "done";
  if (ended === "length" && node.usage.prompt + node.usage.written >= state.about.context) node.state = "full";
}

function fail(node, error, stopped) {
  if (stopped) {
    node.state = "stopped";
    return;
  }
  if (!(error instanceof Failure)) console.error(error);
  node.state = node.text || node.thought ? "cut" : "failed";
  if (error.kind === "full") node.state = "full";
  node.error = leaving ? CLOSED : error.message;
  if (["gone", "cut", "key", "refused"].includes(error.kind)) emit("lost", error.kind);
}

/** Who answers may be another model than the page knows of, since a restart of the server. */
function meet(node, model) {
  if (model !== state.about.model && model !== node.model) emit("lost", "model");
  node.model = model;
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** This tab's, also after a reload. It is put down only meanwhile: a tab that is duplicated has the other's storage. */
function tabId() {
  const id = session.getItem("motet-tab") ?? Math.random().toString(36).slice(2);
  const take = () => session.removeItem("motet-tab");
  take();
  window.addEventListener("pagehide", () => session.setItem("motet-tab", id));
  window.addEventListener("pageshow", take);
  return id;
}
