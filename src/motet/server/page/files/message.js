// One message: its text, what can be done with it, and what is known of it.

import * as actions from "./actions.js";
import { hide } from "./alternatives.js";
import { Chances } from "./chances.js";
import { TOUCH, copyButton, h, iconButton } from "./dom.js";
import { facts, troubleOf, when } from "./facts.js";
import { show } from "./markdown.js";
import { state } from "./state.js";

export class Message {
  constructor(node) {
    this.node = node;
    this.chances = null; // the view of its tokens, while that is shown
    this.editing = false;
    const mine = node.role === "user";
    this.thought = mine ? null : h("details", { class: "thought", hidden: true }, h("summary"), h("div", { class: "markdown" }));
    this.text = h("div", { class: mine ? "text" : "text markdown" });
    this.trouble = h("p", { class: "trouble", hidden: true });
    this.turns = h("span", { class: "turns" });
    this.tools = h("span", { class: "tools", role: "group", "aria-label": mine ? "Your message" : "This answer" });
    this.facts = h("span", { class: "facts" });
    const foot = h("div", { class: "foot", title: when(node) }, this.turns, this.tools, this.facts);
    const who = h("h3", { class: "hidden" }, mine ? "You" : "Answer");
    this.element = h("article", { id: `m-${node.id}`, class: `message ${node.role}` }, who, this.thought, this.text, this.trouble, foot);
    this.makeTools();
  }

  /** Show it as it is now. `last`: whether it is the last one that is shown; `all`: the ways in which it was said. */
  update(last, all) {
    const { node } = this;
    const writing = node.state === "writing";
    this.element.classList.toggle("last", last);
    this.element.classList.toggle("writing", writing);
    this.element.setAttribute("aria-busy", writing);
    if (this.thought) this.showThought(writing);
    if (this.chances) this.chances.update();
    else if (!this.editing) this.showText();
    this.showTurns(all);
    this.showTrouble(last);
    this.facts.textContent = facts(node, state.writing.get(state.current.id), state.about?.model);
    if (this.onTool) this.onTool.hidden = !last || !["done", "edited"].includes(node.state) || !node.text;
    for (const tool of this.tools.children) tool.disabled = writing;
    if (this.chancesTool) this.chancesTool.hidden = !state.preferences.chances && !this.chances;
  }

  showText() {
    const { text } = this.node;
    if (this.shownText === text) return;
    this.shownText = text;
    if (this.node.role === "user") this.text.textContent = text;
    else show(this.text, text);
  }

  showThought(writing) {
    const { thought, text } = this.node;
    this.thought.hidden = !thought;
    if (!thought || this.shownThought === thought + writing) return;
    this.shownThought = thought + writing;
    this.thought.firstChild.textContent = writing && !text ? "Thinking …" : "Thought";
    show(this.thought.lastChild, thought);
  }

  showTurns(all) {
    const place = all.indexOf(this.node);
    const key = `${place}/${all.length}`;
    if (this.shownTurns === key) return;
    this.shownTurns = key;
    this.turns.hidden = all.length < 2;
    this.turns.replaceChildren(
      iconButton("left", "Previous version", () => actions.turn(this.node, -1), { disabled: place === 0 }),
      h("span", { "aria-label": `Version ${place + 1} of ${all.length}` }, `${place + 1}/${all.length}`),
      iconButton("right", "Next version", () => actions.turn(this.node, 1), { disabled: place === all.length - 1 }),
    );
  }

  /** The focus stays on the way from one version to the next. */
  focusTurns() {
    const buttons = [...this.turns.querySelectorAll("button")];
    (buttons.findLast((button) => !button.disabled) ?? buttons[0])?.focus();
  }

  showTrouble(last) {
    const trouble = last ? troubleOf(this.node, state) : null;
    const key = JSON.stringify(trouble) + state.server;
    if (this.shownTrouble === key) return;
    this.shownTrouble = key;
    this.trouble.hidden = !trouble;
    if (!trouble) return;
    const goOn = () => actions.goOn(this.node);
    const act = { continue: goOn, again: goOn, answer: () => actions.answerTo(this.node), begin: actions.begin };
    const label = { continue: "Continue", again: "Try again", answer: "Answer", begin: "New conversation" };
    const button = trouble.act && h("button", { type: "button", class: "button", onclick: act[trouble.act] }, label[trouble.act]);
    this.trouble.classList.toggle("bad", trouble.bad);
    this.trouble.replaceChildren(h("span", {}, trouble.text), button ?? "");
  }

  makeTools() {
    const mine = this.node.role === "user";
    if (!mine) {
      this.onTool = iconButton("on", "Continue", () => actions.goOn(this.node));
      this.chancesTool = iconButton("chances", "Show probabilities", () => this.toggleChances(), { "aria-pressed": "false" });
    }
    this.tools.append(
      ...[
        copyButton("Copy", () => this.node.text),
        mine ? null : iconButton("again", "Answer again", () => actions.regenerate(this.node)),
        this.onTool,
        iconButton("edit", "Edit", () => this.edit()),
        this.chancesTool,
        iconButton("bin", "Delete", () => actions.removeNode(this.node)),
      ].filter(Boolean),
    );
  }

  async toggleChances() {
    hide(true);
    this.chances = this.chances ? null : new Chances(this.node);
    this.chancesTool.setAttribute("aria-pressed", this.chances !== null);
    this.text.classList.toggle("markdown", !this.chances);
    this.shownText = null;
    this.text.blocks = [];
    this.text.replaceChildren();
    if (!this.chances) return this.showText();
    this.text.append(this.chances.element);
    await this.chances.update();
  }

  /** Let the user write it anew. */
  edit() {
    if (this.editing || this.node.state === "writing") return;
    if (this.chances) this.toggleChances();
    this.editing = true;
    const mine = this.node.role === "user";
    const area = h("textarea", { class: "field", "aria-label": "Message", rows: "3", dir: "auto" });
    area.value = this.node.text;
    const done = (event) => {
      event?.preventDefault();
      const changed = area.value.trim() && area.value !== this.node.text;
      if (!changed || actions.edit(this.node, area.value)) this.endEdit(); // or what was written stays
    };
    const keys = (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        this.endEdit();
      } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (mine && !event.shiftKey && !TOUCH.matches))) done(event);
    };
    area.addEventListener("keydown", keys);
    this.text.replaceChildren(
      h(
        "form",
        { class: "editing", onsubmit: done },
        area,
        h("p", {}, mine ? "It becomes a branch: what was said stays." : "It becomes a branch; answers go on from what stands here."),
        h("button", { type: "button", class: "button", onclick: () => this.endEdit() }, "Cancel"),
        h("button", { type: "submit", class: "button strong" }, mine ? "Send" : "Keep"),
      ),
    );
    area.focus();
    area.scrollIntoView({ block: "center" });
  }

  endEdit() {
    this.editing = false;
    this.shownText = null;
    this.text.blocks = [];
    this.text.replaceChildren();
    this.showText();
    document.getElementById("text").focus();
  }
}
