// What the page knows, and who wants to hear when that changes.

import { local } from "./storage.js";
import { readSettings } from "./tree.js";

const PREFERENCES = "motet-preferences";

export const state = {
  about: null, // what the server says of its model
  server: "starting", // or "ready", "loading", "gone", "key"
  kept: true, // whether the browser keeps conversations
  talks: new Map(),
  current: null, // the conversation that is shown
  writing: new Map(), // by conversation, the answer that is written: {node, stop, progress, waiting, rate}
  preferences: readPreferences(),
};

const listeners = new Map();

/** Call `react(detail)` on every event of that name:
 * "server", "talks" (their list), "talk" (which one is shown, or which messages of it), "node" (one message grew or
 * ended), "begun" (an answer), "turning" and "turned" (to another version of a message), "settings", "focus" (goes to
 * where one writes), "lost" (something went wrong with the server, of that kind), "key" (to be used),
 * "notice" ({text, action, act}).
 */
export function on(name, react) {
  if (!listeners.has(name)) listeners.set(name, []);
  listeners.get(name).push(react);
}

export function emit(name, detail) {
  for (const react of listeners.get(name) ?? []) react(detail);
}

export function notice(text, action = null, act = null) {
  emit("notice", { text, action, act });
}

/** Remember what the user prefers, in this browser. */
export function prefer(changes) {
  Object.assign(state.preferences, changes);
  local.setItem(PREFERENCES, JSON.stringify(state.preferences));
}

function readPreferences() {
  const found = { theme: "auto", chances: true, settings: {} };
  try {
    const kept = JSON.parse(local.getItem(PREFERENCES) ?? "{}");
    if (["auto", "light", "dark"].includes(kept.theme)) found.theme = kept.theme;
    if (typeof kept.chances === "boolean") found.chances = kept.chances;
    found.settings = readSettings(kept.settings ?? {});
  } catch {
    // what is kept there is not ours
  }
  return found;
}
