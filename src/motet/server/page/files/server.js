// The server that the page came from: its key, what it says of itself, requests, and what goes wrong.

import { count } from "./facts.js";
import { events } from "./sse.js";
import { local, session } from "./storage.js";

const KEY = "motet-key";
const PART = 200; // tokens at a time of a text that goes on, which seldom ends by itself

/** What went wrong, by what can be done about it.
 *
 * `kind`: "gone" (nobody answers), "key", "busy" (ask again after `seconds`), "full" (the context), "refused",
 * "failed" (the server's fault), or "cut" (a stream ended before the answer did).
 */
export class Failure extends Error {
  constructor(kind, message, facts = {}) {
    super(message);
    Object.assign(this, { kind, ...facts });
  }
}

/** Use a key until the tab is closed, or from now on, in all tabs. */
export function setKey(key, stays) {
  for (const storage of [local, session]) storage.removeItem(KEY);
  (stays ? local : session).setItem(KEY, key);
}

export function hasKey() {
  return key() !== null;
}

function key() {
  return session.getItem(KEY) ?? local.getItem(KEY);
}

/** What the server says of its model, or a Failure. */
export async function about() {
  const found = await (await send("props")).json();
  const { params, n_ctx: context } = found.default_generation_settings;
  const chats = found.chat_template !== "";
  const part = chats || params.max_tokens > 0 ? params.max_tokens : Math.min(PART, Math.ceil(context / 4));
  return {
    model: found.model_alias,
    context,
    defaults: { ...params, max_tokens: part },
    chats,
    thinks: /\benable_thinking\b/.test(found.chat_template),
    end: found.eos_token,
  };
}

/** Whether the server answers and is ready; never a Failure. */
export async function isReady() {
  try {
    return (await fetch(address("health"), { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** The events of a stream, each as an object. `talk`: its conversation's id, by which replicas of a server are chosen.
 * Raises Failure; AbortError when `signal` says so. */
export async function* stream(path, body, talk, signal) {
  const response = await send(path, body, { "Content-Type": "application/json", "X-Session-Id": talk }, signal);
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const said = JSON.parse(data);
      if (said.error) throw failureOf(said.error.code, said.error, null);
      yield said;
    }
  } catch (error) {
    if (error instanceof Failure || signal?.aborted) throw error;
    throw new Failure("cut", "The connection to the server was lost.");
  }
}

async function send(path, body = null, headers = {}, signal = null) {
  if (hasKey()) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(key()))}`;
  let response;
  try {
    response = await fetch(address(path), {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("gone", "The server can’t be reached.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw failureOf(response.status, said?.error ?? {}, response.headers.get("Retry-After"));
}

/** Behind a proxy the page may be in a folder. */
function address(path) {
  return new URL(path, document.baseURI);
}

function failureOf(status, said, retryAfter) {
  // What is between may have answered, in whatever form.
  const message = typeof said.message === "string" ? said.message : `The server answered with status ${status}.`;
  if (said.code === "context_length_exceeded") {
    const tokens = `These are ${count(said.n_prompt_tokens)} tokens, and the context holds ${count(said.n_ctx)}, the answer included.`;
    return new Failure("full", `${tokens} Edit an earlier message, or begin anew.`);
  }
  if (status === 401 || said.code === "invalid_api_key") return new Failure("key", message);
  if (status === 429 || status === 503) return new Failure("busy", message, { seconds: Math.min(Math.max(Number(retryAfter) || 5, 1), 600), loading: status === 503 });
  return new Failure(status >= 500 && status !== 501 ? "failed" : "refused", message);
}
