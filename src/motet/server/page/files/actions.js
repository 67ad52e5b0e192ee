// What users do with conversations, whichever button or key they do it by.

import { instead } from "./pieces.js";
import { emit, notice, state } from "./state.js";
import * as store from "./store.js";
import * as tree from "./tree.js";
import { CLOSED, forgetTokens, isAbandoned, keepTokens, save, stop, tokensOf, write } from "./writer.js";

const UNDO = 8000; // milliseconds for which it is offered

/** Show a new conversation, which is kept from its first message on. */
export function begin() {
  if (state.current && !tree.path(state.current).length) return emit("focus");
  open(tree.newTalk(state.preferences.settings));
}

/** Show a conversation. */
export function open(talk) {
  state.current = talk;
  const kept = state.talks.has(talk.id);
  history.replaceState(null, "", kept ? `#${talk.id}` : location.pathname);
  emit("talk");
  emit("talks");
  emit("focus");
}

/** Say something at the end of what is shown, and have it answered; whether that could be done. */
export function send(text) {
  return say(text, tree.path(state.current).at(-1) ?? null);
}

/** Have a message answered once more, beside what was answered. */
export function regenerate(node) {
  const talk = state.current;
  if (isBusy(talk)) return;
  answer(talk, talk.nodes[node.parent] ?? null);
}

/** Have a message of the user's answered. */
export function answerTo(node) {
  if (!isBusy(state.current)) answer(state.current, node);
}

/** Say a message in another way: the user's is answered, the assistant's stands. Whether that could be done. */
export function edit(node, text) {
  const talk = state.current;
  const parent = talk.nodes[node.parent] ?? null;
  if (node.role === "user") return say(text, parent);
  if (isBusy(talk)) return false;
  tree.add(talk, parent, "assistant", { text, thought: node.thought, state: "edited", base: text.length });
  changed(talk);
  return true;
}

/** Go on with an answer, where it ended. */
export function goOn(node) {
  const talk = state.current;
  if (!isBusy(talk)) begun(talk, node);
}

/** A new branch, in which a token of an answer is another one, and the answer goes on from there. */
export async function branchAt(node, all, group, alternative) {
  const talk = state.current;
  const start = instead(node, all, group, alternative);
  if (!start || isBusy(talk)) return;
  const tokens = await tokensOf(node);
  const { a } = tokens[group.from];
  const ends = alternative.t === state.about.end;
  if (ends) start.text = start.text.slice(0, -alternative.t.length);
  const fields = { ...start, base: node.base, model: node.model };
  const added = tree.add(talk, talk.nodes[node.parent] ?? null, "assistant", fields);
  const kept = tokens.slice(0, group.from);
  await keepTokens(talk, added, ends ? kept : [...kept, { t: alternative.t, p: alternative.p, a, picked: 1 }]);
  changed(talk);
  if (!ends) begun(talk, added);
}

/** Show another way in which a message was said: `step` is 1 for the next, -1 for the one before. */
export function turn(node, step) {
  const all = tree.siblings(state.current, node);
  const next = all[all.indexOf(node) + step];
  if (!next) return;
  tree.choose(state.current, next);
  emit("turning");
  changed(state.current);
  emit("turned", next);
}

/** Forget a message, and what follows it in its branch. */
export function removeNode(node) {
  const talk = state.current;
  if (isBusy(talk)) return;
  const gone = tree.remove(talk, node);
  const count = gone.nodes.length;
  changed(talk);
  emit("focus");
  const timer = setTimeout(() => store.removeTokens(gone.nodes.map(({ id }) => id)), UNDO);
  notice(count > 1 ? `${count} messages were deleted.` : "The message was deleted.", "Undo", () => {
    clearTimeout(timer);
    if (!tree.restore(talk, gone)) return notice("What it followed was deleted, too.");
    changed(talk);
  });
}

export function stopWriting() {
  stop(state.current);
}

export function rename(talk, title) {
  talk.title = title.trim().slice(0, 200);
  save(talk);
  emit("talks");
}

/** Forget a conversation; for a while it can be had back. */
export async function removeTalk(talk) {
  const nodes = Object.values(talk.nodes);
  const wasShown = state.current === talk;
  forget(talk);
  const tokens = await Promise.all(nodes.map(tokensOf));
  await store.removeTalk(talk.id);
  notice(`“${tree.titleOf(talk)}” was deleted.`, "Undo", () => {
    state.talks.set(talk.id, talk);
    save(talk);
    for (const [place, node] of nodes.entries()) if (tokens[place].length) keepTokens(talk, node, tokens[place]);
    if (wasShown) open(talk);
    emit("talks");
  });
}

/** Change how answers of this conversation are made; undefined: as the server does by itself. */
export function set(changes) {
  const { settings } = state.current;
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) delete settings[name];
    else settings[name] = value;
  }
  if (state.talks.has(state.current.id)) save(state.current);
  emit("settings");
}

/** All conversations from the browser's database. */
export async function load() {
  state.kept = await store.open();
  try {
    for (const talk of await store.allTalks()) state.talks.set(talk.id, mended(talk));
  } catch (error) {
    notice(`The conversations that this browser keeps could not be read: ${error.message}`);
  }
  store.onChange(reload);
  setInterval(look, 5000);
  window.addEventListener("hashchange", () => {
    const talk = state.talks.get(location.hash.slice(1));
    if (talk && talk !== state.current) open(talk);
  });
  const shown = state.talks.get(location.hash.slice(1));
  open(shown ?? tree.newTalk(state.preferences.settings));
}

function forget(talk) {
  stop(talk);
  state.talks.delete(talk.id);
  if (state.current === talk) open(tree.newTalk(state.preferences.settings));
  emit("talks");
}

/** Another tab has changed a conversation, or deleted it. */
async function reload({ id, gone }) {
  if (gone) return lose(state.talks.get(id));
  const saved = await store.oneTalk(id);
  const talk = state.talks.get(id);
  const writing = state.writing.has(id);
  if (!saved || (writing && !talk)) return;
  if (writing) {
    Object.assign(talk, { title: saved.title, settings: saved.settings }); // the messages are this tab's
    if (talk === state.current) emit("settings");
  } else if (talk) {
    forgetTokens(Object.values(talk.nodes).filter((node) => node.state === "writing"));
    tree.update(talk, mended(saved));
    if (talk === state.current) emit("talk");
  } else {
    state.talks.set(id, mended(saved));
  }
  emit("talks");
}

/** What another tab deleted is gone here, too, even if it was being written. */
async function lose(talk) {
  if (!talk) return;
  const wrote = state.writing.has(talk.id);
  if (talk === state.current) notice(`“${tree.titleOf(talk)}” was deleted in another tab.`);
  forget(talk);
  if (wrote) await store.removeTalk(talk.id); // it may have been saved since
}

/** What another tab wrote when it was closed is cut off by then. */
function look() {
  const left = [...state.talks.values()].filter((talk) => isWritten(talk) && !state.writing.has(talk.id));
  left.forEach(mended);
  if (left.includes(state.current)) emit("talk");
}

function isWritten(talk) {
  return Object.values(talk.nodes).some((node) => node.state === "writing");
}

/** What nobody writes any more was cut off. */
function mended(talk) {
  for (const node of Object.values(talk.nodes)) {
    if (!isAbandoned(node)) continue;
    node.state = node.text || node.thought ? "cut" : "failed";
    node.error = CLOSED;
  }
  return talk;
}

function say(text, parent) {
  const talk = state.current;
  if (isBusy(talk)) return false;
  const said = tree.add(talk, parent, "user", { text });
  if (!state.talks.has(talk.id)) {
    state.talks.set(talk.id, talk);
    history.replaceState(null, "", `#${talk.id}`);
  }
  answer(talk, said);
  return true;
}

function answer(talk, parent) {
  const node = tree.add(talk, parent, "assistant", { state: "writing" });
  changed(talk);
  begun(talk, node);
}

/** The button that began it may be gone: the focus goes to where one writes next. */
function begun(talk, node) {
  write(talk, node);
  emit("begun");
  emit("focus");
}

function changed(talk) {
  save(talk);
  emit("talk");
  emit("talks");
}

function isBusy(talk) {
  if (state.server !== "ready") {
    emit("lost", state.server);
    return true;
  }
  if (!isWritten(talk)) return false;
  notice(state.writing.has(talk.id) ? "An answer is being written: wait for it, or stop it." : "Another tab is writing in this conversation.");
  return true;
}
