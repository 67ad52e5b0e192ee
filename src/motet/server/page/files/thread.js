// The messages that are shown, and where one is among them.

import { iconButton, h } from "./dom.js";
import { Message } from "./message.js";
import { on, state } from "./state.js";
import { allSiblings, path, siblings } from "./tree.js";

const NEAR = 80; // pixels from the end that count as being there

let thread, scroll, toEnd;
let shown = new Map(); // the views by the id of their message
let stale = new Set();
let follows = true; // whether the end is kept in sight

export function startThread() {
  thread = document.getElementById("thread");
  scroll = document.getElementById("scroll");
  toEnd = iconButton("down", "To the newest message", () => end("smooth"), { hidden: true });
  document.getElementById("to-end").append(toEnd);
  scroll.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(() => follows && end()).observe(thread);
  let talk = null;
  on("talk", () => {
    if (state.current !== talk) [shown, follows] = [new Map(), true];
    talk = state.current;
    draw();
  });
  on("begun", () => {
    follows = true;
    end();
  });
  on("turning", () => (follows = false)); // what was looked at stays where it is
  on("node", later);
  on("server", draw);
  on("turned", (node) => shown.get(node.id)?.focusTurns());
}

/** The view of the last message of a role, for keys. */
export function lastOf(role) {
  const node = path(state.current).findLast((each) => each.role === role);
  return node && shown.get(node.id);
}

/** The view that the focus is in. */
export function focused() {
  return shown.get(document.activeElement?.closest("article")?.id.slice(2));
}

function draw() {
  const nodes = path(state.current);
  const views = new Map();
  for (const node of nodes) views.set(node.id, shown.get(node.id) ?? new Message(node));
  shown = views;
  const elements = [...views.values()].map((view) => view.element);
  const wanted = elements.length ? elements : [welcome()];
  for (const [place, element] of wanted.entries()) {
    if (thread.children[place] !== element) thread.insertBefore(element, thread.children[place] ?? null);
  }
  while (thread.children.length > wanted.length) thread.lastElementChild.remove();
  const all = allSiblings(state.current);
  for (const [id, view] of views) view.update(id === nodes.at(-1).id, all.get(view.node.parent));
  if (follows) end();
  else look();
}

/** Answers grow often: at most once for each picture on the screen. */
function later(node) {
  if (!shown.has(node.id)) return;
  if (!stale.size) requestAnimationFrame(redraw);
  stale.add(node.id);
}

function redraw() {
  const last = path(state.current).at(-1);
  const grown = stale;
  stale = new Set();
  for (const id of grown) {
    const view = shown.get(id);
    view?.update(id === last?.id, siblings(state.current, view.node));
  }
}

function welcome() {
  const { about } = state;
  let line = "";
  if (about) line = about.chats ? "What would you like to talk about?" : "This model has no chat template: it goes on with your text, just as it stands.";
  return h("div", { class: "welcome" }, h("p", { class: "welcome-model" }, about?.model ?? "Motet"), h("p", {}, line));
}

function look() {
  const rest = scroll.scrollHeight - scroll.clientHeight - scroll.scrollTop;
  follows = rest < NEAR;
  toEnd.hidden = follows;
}

function end(behavior = "instant") {
  scroll.scrollTo({ top: scroll.scrollHeight, behavior });
}
