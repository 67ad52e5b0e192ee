// The list of conversations: found, opened, renamed, deleted, exported.

import * as actions from "./actions.js";
import { h, icon, iconButton } from "./dom.js";
import { closeDrawers, nextTheme, paintTheme } from "./panels.js";
import { on, state } from "./state.js";
import { exportTalks, importFiles } from "./transfer.js";
import { mentions, titleOf } from "./tree.js";

const DAY = 86_400_000;

let list, search;
let renaming = null; // the conversation whose title is being changed

export function startSidebar() {
  list = document.getElementById("talks");
  search = document.getElementById("search");
  const begin = document.getElementById("begin");
  begin.append(icon("plus"), "New conversation");
  begin.addEventListener("click", () => {
    actions.begin();
    closeDrawers();
  });
  search.addEventListener("input", draw);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !search.value) return;
    event.stopPropagation();
    search.value = "";
    draw();
  });
  const file = h("input", { type: "file", accept: ".json,application/json", multiple: true, hidden: true, "aria-label": "Files to import" });
  file.addEventListener("change", async () => {
    await importFiles([...file.files]);
    file.value = "";
  });
  document.getElementById("sidebar-foot").append(
    iconButton("in", "Import conversations", () => file.click()),
    iconButton("out", "Export all conversations", () => exportTalks([...state.talks.values()])),
    iconButton("help", "Keyboard shortcuts", () => document.getElementById("help").showModal()),
    iconButton("dark", "Theme", nextTheme, { id: "theme" }),
    file,
  );
  paintTheme();
  on("talks", draw);
}

function draw() {
  if (renaming) return;
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...state.talks.values()].filter((talk) => mentions(talk, words)).sort((one, other) => other.updated - one.updated);
  const parts = grouped(found);
  const sections = [...parts].map(([name, talks]) => [h("h3", {}, name), h("ul", {}, talks.map(entry))]);
  const none = h("p", { class: "none" }, words.length ? "Nothing found." : "Conversations appear here. They are kept in this browser.");
  const focusedTalk = document.activeElement?.closest?.(".talk")?.dataset.id;
  const place = [...list.querySelectorAll(".talk")].findIndex((each) => each.dataset.id === focusedTalk);
  list.replaceChildren(...(found.length ? sections.flat() : [none]));
  if (place < 0) return;
  const links = [...list.querySelectorAll(".talk a")]; // the same one, or where it was deleted the one in its place
  (list.querySelector(`[data-id="${focusedTalk}"] a`) ?? links[place] ?? links.at(-1) ?? search).focus();
}

function entry(talk) {
  const current = talk === state.current;
  const title = titleOf(talk);
  const link = h("a", { href: `#${talk.id}`, title, "aria-current": current ? "page" : null, ondblclick: () => rename(talk, item) }, title);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (talk !== state.current) actions.open(talk);
    closeDrawers();
  });
  const item = h("li", { class: `talk${current ? " current" : ""}${state.writing.has(talk.id) ? " writing" : ""}`, "data-id": talk.id }, link);
  item.append(
    iconButton("edit", `Rename ${title}`, () => rename(talk, item)),
    iconButton("out", `Export ${title}`, () => exportTalks([talk])),
    iconButton("bin", `Delete ${title}`, () => actions.removeTalk(talk)),
  );
  return item;
}

function rename(talk, item) {
  renaming = talk;
  const field = h("input", { class: "field", "aria-label": "Title", maxlength: "200", dir: "auto" });
  field.value = titleOf(talk);
  const end = (keep) => {
    if (renaming !== talk) return;
    renaming = null;
    if (keep && field.value.trim() && field.value.trim() !== titleOf(talk)) actions.rename(talk, field.value);
    draw();
  };
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.stopPropagation();
    end(event.key === "Enter");
    list.querySelector(`[data-id="${talk.id}"] a`)?.focus();
  });
  field.addEventListener("blur", () => end(true));
  item.replaceChildren(field);
  field.select();
}

/** The part of the list that a conversation is in. */
function when(talk) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (talk.updated >= today) return "Today";
  if (talk.updated >= today - DAY) return "Yesterday";
  if (talk.updated >= today - 6 * DAY) return "This week";
  return new Date(talk.updated).toLocaleDateString("en", { month: "long", year: "numeric" });
}

function grouped(talks) {
  const parts = new Map();
  for (const talk of talks) {
    const name = when(talk);
    if (!parts.has(name)) parts.set(name, []);
    parts.get(name).push(talk);
  }
  return parts;
}
