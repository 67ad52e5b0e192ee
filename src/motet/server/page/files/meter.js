// How full the context is with what is shown, and what the head says.

import { h } from "./dom.js";
import { count } from "./facts.js";
import { on, state } from "./state.js";
import { path, titleOf } from "./tree.js";

export function startMeter() {
  for (const name of ["talk", "node", "server", "talks", "settings"]) on(name, draw);
}

function draw() {
  if (!state.current) return;
  const title = titleOf(state.current);
  say("title", title);
  document.title = state.talks.has(state.current.id) ? `${title} – Motet` : "Motet";
  const { system, ...own } = state.current.settings;
  const marks = [state.about?.model, system && state.about?.chats && "system prompt", Object.keys(own).length && "own settings"];
  say("model", marks.filter(Boolean).join(" · "));
  const limit = state.about?.context;
  const used = usedBy(path(state.current));
  const box = document.getElementById("meter");
  box.hidden = !limit || !used;
  if (box.hidden) return;
  const label = `${count(used)} of ${count(limit)} tokens of the context are used`;
  if (box.title === label) return;
  box.title = label;
  const bar = h("meter", { min: 0, max: limit, low: limit * 0.8, high: limit * 0.95, optimum: 0, value: used, "aria-label": label });
  box.replaceChildren(h("span", { "aria-hidden": "true" }, count(used), h("span", { class: "limit" }, ` / ${count(limit)}`)), bar);
}

/** Tokens up to the last answer whose number is known. */
function usedBy(nodes) {
  const usage = nodes.findLast((node) => node.usage)?.usage;
  return usage ? usage.prompt + usage.written : 0;
}

function say(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}
