// Elements from data. Text only ever becomes text nodes: nothing here reads markup.

/** Fingers, whose keyboards have no Shift Enter: there Enter is a new line. */
export const TOUCH = matchMedia("(pointer: coarse)");

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick: f`) and children; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  // One after the other: there may be more of them than a call takes arguments.
  for (const child of children.flat()) if (child != null && child !== false) element.append(child);
  return element;
}

/** Lines on a grid of 24, drawn with the colour of the text beside them. */
const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M6.5 6.5h11v11h-11zM9 9h6v6H9z",
  down: "M12 5v14M6 13l6 6 6-6",
  on: "M5 6l6 6-6 6M13 6l6 6-6 6",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v10H9zM5 15V5h10",
  done: "M5 12l5 5 9-10",
  again: "M19 12a7 7 0 1 1-2-4.9M17 3v4h-4",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  chances: "M5 19v-5M10 19V9M15 19v-8M20 19V5",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M13 6v4M7 14v4",
  dark: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
  help: "M9.5 9a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 17h.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
  out: "M12 15V4M8 8l4-4 4 4M5 15v5h14v-5",
  in: "M12 4v11M8 11l4 4 4-4M5 15v5h14v-5",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon alone; its name is for those who can't see it, and on hover. */
export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, onclick, ...attributes }, icon(name));
}

/** Put text on the clipboard, also where the page isn't of a secure origin, or may not use the clipboard by itself. */
export async function copy(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    copyBySelecting(text);
  }
}

function copyBySelecting(text) {
  const area = h("textarea", { class: "hidden", "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}

/** A copy button, which says for a moment that it has copied what `text` gives. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    button.replaceChildren(icon("done"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, 1200);
  });
  return button;
}
