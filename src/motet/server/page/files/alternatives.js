// The small window with the tokens that might have been at a place.

import * as actions from "./actions.js";
import { h } from "./dom.js";
import { instead, percent, visible } from "./pieces.js";
import { on, state } from "./state.js";

const GAP = 6; // pixels between it and its token

let box = null;
let owner = null; // the token's element
let pinned = false; // whether it stays when the pointer leaves
let timer = 0;
on("talk", () => hide(true)); // the token may be gone

/** Show what might have been at `group`, beside `element`. `stays`: until it is closed, and it takes the focus. */
export function offer(node, all, group, tokens, element, stays) {
  clearTimeout(timer);
  if ((pinned && !stays) || !element.isConnected) return;
  if (owner !== element || !box) {
    hide(true);
    build(node, all, group, tokens);
    owner = element;
    element.classList.add("looked-at");
    place(element);
  }
  pinned = stays;
  if (stays) (box.querySelector("button:not(:disabled)") ?? box).focus();
}

/** Let it go: at once, or soon if the pointer doesn't come back and it isn't to stay. */
export function hide(atOnce, focusOwner = false) {
  clearTimeout(timer);
  if (!atOnce) {
    if (!pinned) timer = setTimeout(() => hide(true), 250);
    return;
  }
  const [old, token] = [box, owner];
  [box, owner, pinned] = [null, null, false];
  token?.classList.remove("looked-at");
  if (focusOwner) token?.focus();
  old?.remove();
}

function build(node, all, group, tokens) {
  const token = tokens[group.from];
  const writing = state.writing.has(state.current.id);
  const same = (other) => other.t === token.t && String(other.b) === String(token.b);
  const others = token.a.some(same) ? token.a : [...token.a, token];
  const rows = others.map((other) => {
    const chosen = same(other);
    const possible = !chosen && !writing && instead(node, all, group, other) !== null;
    const ends = other.t === state.about?.end;
    const label = ends ? "end here" : visible(other);
    const bar = h("span", { class: "bar" });
    bar.style.width = `${Math.exp(other.p) * 100}%`;
    return h(
      "button",
      {
        type: "button",
        class: chosen ? "alternative chosen" : "alternative",
        disabled: !possible,
        title: chosen ? "This is what was said" : "Go on from here, in a new branch",
        "aria-label": `${chosen ? "Said: " : "Continue from "}${label}, ${percent(other.p)}`,
        onclick: () => {
          hide(true);
          actions.branchAt(node, all, group, other);
        },
      },
      bar,
      h("code", {}, label),
      h("span", {}, percent(other.p)),
    );
  });
  box = h(
    "div",
    {
      class: "alternatives",
      role: "dialog",
      tabindex: "-1",
      "aria-label": "Alternatives to this token",
      onmouseenter: () => clearTimeout(timer),
      onmouseleave: () => hide(false),
      onkeydown: keys,
      onfocusout: (event) => box && !box.contains(event.relatedTarget) && pinned && hide(true),
    },
    h("p", {}, "Continue from another token:"),
    rows,
  );
  document.body.append(box);
}

/** Below the token, or above where there is no room. */
function place(element) {
  const at = element.getClientRects()[0];
  const { offsetWidth: width, offsetHeight: height } = box;
  const below = at.bottom + GAP + height <= innerHeight;
  box.style.left = `${Math.max(GAP, Math.min(at.left, innerWidth - width - GAP))}px`;
  box.style.top = `${below ? at.bottom + GAP : Math.max(GAP, at.top - GAP - height)}px`;
}

function keys(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    event.stopPropagation();
    hide(true, true);
  } else if (step) {
    const buttons = [...box.querySelectorAll("button:not(:disabled)")];
    buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length]?.focus();
    event.preventDefault();
  }
}
