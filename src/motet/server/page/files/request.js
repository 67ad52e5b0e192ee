// What is asked of the server for an answer, and what its events say: by the model's chat template, or, where
// it has none, as plain text that goes on.

const ALTERNATIVES = 5;
const SAMPLING = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "max_tokens", "stop"];

/** The path and body of a request for `node`, which may have begun, after the messages `earlier`. */
export function requestFor(about, settings, earlier, node, wantsTokens) {
  const body = { stream: true, return_progress: true };
  for (const name of SAMPLING) if (settings[name] !== undefined) body[name] = settings[name];
  if (!about.chats) {
    body.prompt = [...earlier, node].map((message) => message.text).join("");
    body.max_tokens ??= about.defaults.max_tokens;
    if (wantsTokens) body.n_probs = ALTERNATIVES;
    return { path: "completion", body };
  }
  body.messages = earlier.map(message);
  if (settings.system) body.messages.unshift({ role: "system", content: settings.system });
  if (node.text || node.thought) {
    body.messages.push(message(node));
    body.continue_final_message = true;
  }
  body.stream_options = { include_usage: true };
  if (wantsTokens) Object.assign(body, { logprobs: true, top_logprobs: ALTERNATIVES });
  if (settings.thinking !== undefined && about.thinks) body.chat_template_kwargs = { enable_thinking: settings.thinking };
  return { path: "v1/chat/completions", body };
}

function message(node) {
  const found = { role: node.role, content: node.text };
  if (node.thought) found.reasoning_content = node.thought;
  return found;
}

/** What an event says:
 * `text`, `thought`: what they go on with; `tokens`: as in pieces.js; `progress`: how much of the prompt is
 * computed; `usage`, `speed`; `end`: why the answer ended; `model`.
 */
export function readEvent(event) {
  return "choices" in event ? readChat(event) : readText(event);
}

function readChat(event) {
  const choice = event.choices[0];
  const found = { model: event.model, progress: progressOf(event) };
  if (choice) {
    found.text = choice.delta.content ?? "";
    found.thought = choice.delta.reasoning_content ?? "";
    found.tokens = (choice.logprobs?.content ?? []).map(token);
    found.end = choice.finish_reason;
  }
  if (event.usage) {
    const { prompt_tokens: prompt, completion_tokens: written, prompt_tokens_details: details } = event.usage;
    found.usage = { prompt, written, cached: details.cached_tokens };
  }
  if (event.timings && !found.progress) found.speed = speedOf(event.timings);
  return found;
}

function readText(event) {
  const found = { model: event.model, progress: progressOf(event), text: event.content };
  found.tokens = (event.completion_probabilities ?? []).map(token);
  if (event.stop) {
    found.end = event.stop_type === "limit" ? "length" : "stop";
    found.usage = { prompt: event.tokens_evaluated, written: event.tokens_predicted, cached: event.timings.cache_n };
    found.speed = speedOf(event.timings);
  }
  return found;
}

function progressOf({ prompt_progress: said }) {
  return said && { total: said.total, cached: said.cache, computed: said.processed };
}

/** Tokens a second, of the prompt's part that was computed and of the answer. */
function speedOf(timings) {
  return {
    prompt: timings.prompt_n > 1 ? timings.prompt_per_second : 0,
    answer: timings.predicted_per_second,
    first: timings.prompt_ms / 1000,
  };
}

/** A token: `t` its text, or where its bytes are none `b`; `p` its log probability; `a` the most probable ones
 * at its place, the same way. Short names, for many are kept. */
function token(said) {
  return { ...piece(said), p: round(said.logprob), a: said.top_logprobs.map((other) => ({ ...piece(other), p: round(other.logprob) })) };
}

function piece({ token: text, bytes }) {
  const whole = new TextEncoder().encode(text);
  const same = whole.length === bytes.length && whole.every((byte, place) => byte === bytes[place]);
  return same ? { t: text } : { b: bytes };
}

function round(logprob) {
  return Math.round(logprob * 1e4) / 1e4;
}
