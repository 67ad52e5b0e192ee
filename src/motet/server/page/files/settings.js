// The settings of a conversation: what the model is told first, and how its tokens are chosen.

import * as actions from "./actions.js";
import { h, iconButton } from "./dom.js";
import { toggleSettings } from "./panels.js";
import { emit, notice, on, prefer, state } from "./state.js";

const NUMBERS = [
  ["temperature", "Temperature", "0: always the most probable token", { min: 0, step: 0.1 }],
  ["top_p", "Top-p", "The most probable tokens that make up this share", { min: 0, max: 1, step: 0.05 }],
  ["top_k", "Top-k", "So many of the most probable tokens; 0: all", { min: 0, step: 1 }],
  ["min_p", "Min-p", "Tokens at least so probable, beside the best one", { min: 0, max: 1, step: 0.01 }],
  ["repeat_penalty", "Repeat penalty", "1: none", { min: 0.01, step: 0.05 }],
  ["seed", "Seed", "The same seed gives the same answer", { min: 0, step: 1 }],
  ["max_tokens", "Tokens of an answer", "At most; empty: to the end of the context", { min: 1, step: 1 }],
];

let panel;

export function startSettings() {
  panel = document.getElementById("settings");
  on("talk", draw);
  on("server", draw);
}

function draw() {
  if (panel.contains(document.activeElement) && drawn === state.current) return;
  drawn = state.current;
  const { about, current } = state;
  const head = h("div", { class: "settings-head" }, h("h2", {}, "Settings"), iconButton("close", "Close the settings", toggleSettings));
  panel.replaceChildren(
    head,
    about && !about.chats ? h("p", { class: "hint" }, "The model has no chat template, so there is no system prompt.") : system(current),
    about?.thinks ? thinking(current) : "",
    h("fieldset", {}, h("legend", {}, "Sampling"), ...NUMBERS.map((each) => number(current, about, ...each)), stops(current)),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "button", onclick: reset }, "Reset"),
      h("button", { type: "button", class: "button", onclick: makeDefault }, "Use for new conversations"),
    ),
    chances(),
  );
}

let drawn = null; // the conversation whose settings are there

function system(talk) {
  const field = h("textarea", { class: "field", rows: "5", id: "system", placeholder: "None", dir: "auto" });
  field.value = talk.settings.system ?? "";
  field.addEventListener("change", () => actions.set({ system: field.value.trim() ? field.value : undefined }));
  return h("div", { class: "setting" }, h("label", { for: "system" }, "System prompt"), field);
}

function number(talk, about, name, label, hint, limits) {
  const standard = about?.defaults[name];
  const none = name === "max_tokens" ? "no limit" : "any";
  const shown = standard === undefined || (standard < 0 && name !== "temperature") ? none : String(Number(standard.toFixed(4)));
  const field = h("input", { class: "field", type: "number", inputmode: "decimal", id: `set-${name}`, placeholder: shown, "aria-describedby": `hint-${name}`, ...limits });
  field.value = talk.settings[name] ?? "";
  field.addEventListener("change", () => {
    const valid = field.checkValidity() || field.validity.stepMismatch;
    field.setAttribute("aria-invalid", !valid);
    if (valid) actions.set({ [name]: field.value === "" ? undefined : Number(field.value) });
  });
  return h("div", { class: "setting number" }, h("label", { for: field.id }, label), field, h("p", { class: "hint", id: `hint-${name}` }, hint));
}

function stops(talk) {
  const field = h("textarea", { class: "field", rows: "2", id: "stops", "aria-describedby": "hint-stops" });
  field.value = (talk.settings.stop ?? []).map((each) => each.replaceAll("\n", "\\n")).join("\n");
  field.addEventListener("change", () => {
    const found = field.value.split("\n").filter(Boolean);
    actions.set({ stop: found.length ? found.map((each) => each.replaceAll("\\n", "\n")) : undefined });
  });
  const hint = h("p", { class: "hint", id: "hint-stops" }, "An answer ends before any of these, one a line; \\n is a line’s end");
  return h("div", { class: "setting" }, h("label", { for: "stops" }, "Stop texts"), field, hint);
}

function thinking(talk) {
  const choices = [["", "As the model has it"], ["true", "Yes"], ["false", "No"]];
  const field = h("select", { class: "field", id: "thinking" }, choices.map(([value, label]) => h("option", { value }, label)));
  field.value = String(talk.settings.thinking ?? "");
  field.addEventListener("change", () => actions.set({ thinking: field.value ? field.value === "true" : undefined }));
  return h("div", { class: "setting number" }, h("label", { for: "thinking" }, "Thinks before it answers"), field);
}

/** Of the page, not of one conversation. */
function chances() {
  const box = h("input", { type: "checkbox", id: "chances", checked: state.preferences.chances });
  box.addEventListener("change", () => {
    prefer({ chances: box.checked });
    emit("talk");
  });
  const hint = h("p", { class: "hint" }, "Answers can then be looked at token by token. In all conversations.");
  return h("div", { class: "setting" }, h("label", {}, box, " Keep probabilities"), hint);
}

function reset() {
  const names = [...NUMBERS.map(([name]) => name), "stop", "thinking"];
  actions.set(Object.fromEntries(names.map((name) => [name, undefined])));
  drawn = null;
  draw();
}

function makeDefault() {
  prefer({ settings: { ...state.current.settings } });
  notice("New conversations begin with these settings.");
}
