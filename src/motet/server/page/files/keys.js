// Keyboard shortcuts, and the dialog that lists them.

import * as actions from "./actions.js";
import { h, iconButton } from "./dom.js";
import { closeDrawers, toggleSettings, toggleSidebar } from "./panels.js";
import { state } from "./state.js";
import { focused, lastOf } from "./thread.js";

const APPLE = /Mac|iPhone|iPad/.test(navigator.platform);
const CONTROL = APPLE ? "⌘" : "Ctrl";
const ALT = APPLE ? "⌃ ⇧" : "Alt";
const TURN = APPLE ? "⌥" : "Alt";

const LIST = [
  ["Enter", "Send"],
  ["Shift Enter", "A new line"],
  ["Esc", "Stop the answer; close what is open"],
  ["↑", "In an empty field: edit your last message"],
  [`${ALT} R`, "Answer again"],
  [`${TURN} ←  ${TURN} →`, "The version before, the next one"],
  [`${ALT} P`, "Show probabilities of the last answer"],
  [`${ALT} N`, "New conversation"],
  [`${CONTROL} K`, "Search conversations"],
  [`${ALT} L`, "The list of conversations"],
  [`${ALT} S`, "Settings"],
  ["/", "Go to the message field"],
  ["?", "This list"],
];

const BY_NAME = {
  N: actions.begin,
  R: () => lastOf("assistant") && actions.regenerate(lastOf("assistant").node),
  P: () => lastOf("assistant")?.toggleChances(),
  L: toggleSidebar,
  S: toggleSettings,
  ArrowLeft: () => turn(-1),
  ArrowRight: () => turn(1),
};

export function startKeys() {
  const help = document.getElementById("help");
  const rows = LIST.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, keys.split(" ").map((key) => (key ? h("kbd", {}, key) : " "))), h("td", {}, what)));
  const close = iconButton("close", "Close", () => help.close());
  help.append(h("div", { class: "settings-head" }, h("h2", { id: "help-title" }, "Keyboard"), close), h("table", {}, h("tbody", {}, rows)));
  document.addEventListener("keydown", key);
}

function key(event) {
  if (event.defaultPrevented || event.isComposing) return;
  const typing = event.target.matches("input, textarea, select");
  const control = APPLE ? event.metaKey : event.ctrlKey;
  if (event.key === "Escape") escape(event);
  else if (document.querySelector("dialog[open]")) return;
  else if (control && event.key.toLowerCase() === "k") act(event, search);
  else if (isOurs(event) && BY_NAME[nameOf(event)]) act(event, BY_NAME[nameOf(event)]);
  else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "/") act(event, () => document.getElementById("text").focus());
  else if (event.key === "?") act(event, () => document.getElementById("help").showModal());
}

/** Whether it is pressed with those that the page's shortcuts begin with. Apple's ⌥ writes signs, as @, and goes from word to word. */
function isOurs(event) {
  if (event.metaKey) return false;
  if (!APPLE) return event.altKey && !event.ctrlKey;
  if (event.key.startsWith("Arrow")) return event.altKey && !event.ctrlKey && !event.target.value;
  return event.ctrlKey && event.shiftKey && !event.altKey;
}

/** The key by its letter, or where that is none of these, by its place. */
function nameOf(event) {
  return /^[a-z]$/i.test(event.key) ? event.key.toUpperCase() : event.code.replace(/^Key/, "");
}

function act(event, doing) {
  event.preventDefault();
  doing();
}

function escape(event) {
  if (document.querySelector("dialog[open]")) return;
  if (closeDrawers()) return event.preventDefault();
  if (document.getElementById("settings").contains(event.target)) return toggleSettings();
  if (state.writing.has(state.current.id)) actions.stopWriting();
  else document.getElementById("text").focus();
}

function search() {
  if (document.getElementById("sidebar").hidden) toggleSidebar();
  document.getElementById("search").focus();
}

/** The versions of the message that the focus is in, or of the last one that has several. */
function turn(step) {
  const view = focused() ?? [lastOf("assistant"), lastOf("user")].find((each) => each && !each.turns.hidden);
  if (view) actions.turn(view.node, step);
}
