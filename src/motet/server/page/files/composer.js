// Where the user writes: sends, stops, keeps drafts, takes files of text that are dropped.

import * as actions from "./actions.js";
import { TOUCH, h, icon } from "./dom.js";
import { notice, on, state } from "./state.js";
import { session } from "./storage.js";
import { path } from "./tree.js";
import { lastOf } from "./thread.js";

const MOST_BYTES = 2 ** 20; // of a file

let form, text, button;

export function startComposer() {
  form = document.getElementById("composer");
  text = document.getElementById("text");
  button = document.getElementById("send");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.writing.has(state.current.id)) actions.stopWriting();
    else send();
  });
  text.addEventListener("keydown", key);
  text.addEventListener("input", () => {
    keepDraft();
    fit();
    draw();
  });
  document.addEventListener("dragover", hold);
  document.addEventListener("drop", (event) => hold(event) && take([...event.dataTransfer.files]));
  window.addEventListener("resize", fit);
  for (const name of ["node", "server", "talks"]) on(name, draw);
  on("focus", focus);
  on("talk", () => {
    const draft = session.getItem(draftName()) ?? "";
    if (shown !== state.current.id) text.value = draft;
    shown = state.current.id;
    fit();
    draw();
  });
  focus();
}

let shown = null; // the conversation whose draft is there

function send() {
  const draft = draftName();
  if (!text.value.trim() || !actions.send(text.value)) return;
  text.value = "";
  session.removeItem(draft);
  fit();
  draw();
}

/** Whether files are dragged; the browser would leave the page for them. */
function hold(event) {
  const files = event.dataTransfer.types.includes("Files");
  if (files) event.preventDefault();
  return files;
}

/** Write what files say into the message, between fences that nothing in them closes. */
async function take(files) {
  for (const file of files) {
    const said = file.size <= MOST_BYTES ? await file.text().catch(() => "\0") : "\0";
    if (/[\0\ufffd]/.test(said)) {
      notice(`${file.name} is no text of at most a megabyte.`);
      continue;
    }
    let fence = "```";
    while (said.includes(fence)) fence += "`";
    text.setRangeText(`${file.name}:\n${fence}\n${said.trimEnd()}\n${fence}\n`, text.selectionStart, text.selectionEnd, "end");
  }
  text.dispatchEvent(new Event("input"));
  focus();
}

function key(event) {
  if (event.isComposing) return;
  const sends = event.ctrlKey || event.metaKey || !TOUCH.matches;
  if (event.key === "Enter" && sends && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    if (!state.writing.has(state.current.id)) send();
  } else if (event.key === "ArrowUp" && !text.value && path(state.current).length) {
    event.preventDefault();
    lastOf("user")?.edit();
  }
}

/** A button that sends, or while an answer is written, stops. */
function draw() {
  const writing = state.writing.has(state.current?.id);
  const name = writing ? "Stop" : "Send";
  if (button.getAttribute("aria-label") !== name) {
    button.setAttribute("aria-label", name);
    button.title = writing ? "Stop (Esc)" : "Send (Enter)";
    button.replaceChildren(icon(writing ? "stop" : "send"));
  }
  button.disabled = !writing && !text.value.trim();
  text.placeholder = state.about && !state.about.chats ? "Begin a text" : "Write a message";
  const under = document.getElementById("under");
  const line = state.kept ? "" : "This browser keeps nothing: export conversations that you want to have again.";
  if (under.textContent !== line) under.replaceChildren(line && h("span", {}, line));
}

/** As high as what is written, up to a limit that the style sheet sets. */
function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

function focus() {
  if (matchMedia("(hover: hover)").matches) text.focus(); // elsewhere a keyboard would come up
}

function keepDraft() {
  if (text.value) session.setItem(draftName(), text.value);
  else session.removeItem(draftName());
}

function draftName() {
  return `motet-draft-${state.talks.has(state.current.id) ? state.current.id : "new"}`;
}
