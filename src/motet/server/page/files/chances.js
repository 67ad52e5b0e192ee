// An answer's tokens, coloured by how probable each was; the alternatives at its place, and branches from them.

import { h } from "./dom.js";
import { hide, offer } from "./alternatives.js";
import { groups, percent, tenths, visible } from "./pieces.js";
import { tokensOf } from "./writer.js";

export class Chances {
  constructor(node) {
    this.node = node;
    this.all = [];
    this.tokens = h("p", {
      class: "tokens",
      role: "group",
      "aria-label": "Tokens by probability. Arrow keys go from one to the next, Enter shows alternatives.",
      onkeydown: (event) => this.key(event),
      onclick: (event) => this.point(event, true),
      onmouseover: (event) => this.point(event, false),
      onmouseout: () => hide(false),
      onfocusin: (event) => this.focus(event.target),
    });
    const steps = [9, 7, 5, 3, 1].map((step) => h("span", { class: `token c${step}` }, `${step * 10} %`));
    this.legend = h("p", { class: "legend" }, "Probability: ", steps);
    this.element = h("div", { class: "chances" }, this.legend, this.tokens);
  }

  async update() {
    const tokens = await tokensOf(this.node);
    if (!tokens.length && this.node.state !== "writing") {
      this.legend.replaceChildren("No probabilities were kept of this answer.");
      this.tokens.replaceChildren(this.node.text);
      return;
    }
    this.all = groups(tokens);
    const base = this.node.base ?? 0;
    if (base && !this.tokens.firstChild) this.tokens.append(h("span", { class: "older" }, this.node.text.slice(0, base)));
    const shown = this.tokens.querySelectorAll(".token").length;
    if (shown) this.tokens.lastElementChild.remove(); // which may have been a part of a character
    for (let number = Math.max(0, shown - 1); number < this.all.length; number++) {
      const group = this.all[number];
      this.tokens.append(this.build(group, tokens[group.from], number));
    }
  }

  build(group, token, number) {
    const share = token.picked ? `chosen by you, ${percent(token.p)}` : percent(token.p);
    return h(
      "span",
      {
        class: `token c${tenths(token)}${token.picked ? " picked" : ""}`,
        role: "button",
        tabindex: number === 0 ? "0" : "-1",
        "aria-label": `${group.text.trim() || visible({ t: group.text })}, ${share}`,
        "data-place": number,
      },
      group.text.replaceAll("\n", "⏎\n"),
    );
  }

  async point(event, stays) {
    const element = event.target.closest(".token");
    if (!element) return;
    const group = this.all[element.dataset.place];
    offer(this.node, this.all, group, await tokensOf(this.node), element, stays);
  }

  /** One token alone can be reached by Tab: the one that was focused last. */
  focus(element) {
    for (const other of this.tokens.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    element.tabIndex = 0;
  }

  key(event) {
    const element = event.target;
    const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
    if (step) {
      const next = element[step];
      if (next?.classList.contains("token")) next.focus();
      event.preventDefault();
      event.stopPropagation();
    } else if (["Enter", " ", "ArrowDown"].includes(event.key)) {
      event.preventDefault();
      this.point(event, true);
    }
  }
}
