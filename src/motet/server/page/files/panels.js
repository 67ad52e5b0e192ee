// Drawers, the theme, and dialogs.

import { iconButton } from "./dom.js";
import { prefer, state } from "./state.js";

const NARROW = matchMedia("(max-width: 50rem)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const THEMES = { auto: "as the system has it", light: "light", dark: "dark" };

let sidebar, settings, shade;

export function startPanels() {
  sidebar = document.getElementById("sidebar");
  settings = document.getElementById("settings");
  shade = document.getElementById("shade");
  document.getElementById("open-sidebar").append(iconButton("menu", "Conversations", toggleSidebar, { id: "menu", "aria-controls": "sidebar" }));
  document.getElementById("close-sidebar").append(iconButton("close", "Close the list", toggleSidebar));
  document.getElementById("open-settings").append(iconButton("sliders", "Settings", toggleSettings, { id: "sliders", "aria-controls": "settings" }));
  shade.addEventListener("click", closeDrawers);
  NARROW.addEventListener("change", () => show(sidebar, !NARROW.matches));
  DARK.addEventListener("change", paintTheme);
  show(sidebar, !NARROW.matches);
  show(settings, false);
}

export function toggleSidebar() {
  const open = sidebar.hidden;
  if (open && NARROW.matches) show(settings, false);
  show(sidebar, open);
  if (open) sidebar.querySelector("input, button")?.focus();
  else document.getElementById("menu").focus();
}

export function toggleSettings() {
  const open = settings.hidden;
  if (open && NARROW.matches) show(sidebar, false);
  show(settings, open);
  if (open) settings.querySelector("textarea, input")?.focus();
  else document.getElementById("sliders").focus();
}

/** Close what lies over the conversation; whether something did. */
export function closeDrawers() {
  const open = !shade.hidden;
  if (open) {
    const from = document.activeElement;
    const button = settings.contains(from) ? "sliders" : "menu";
    show(sidebar, !NARROW.matches);
    show(settings, false);
    document.getElementById(button).focus();
  }
  return open;
}

export function nextTheme() {
  const names = Object.keys(THEMES);
  prefer({ theme: names[(names.indexOf(state.preferences.theme) + 1) % names.length] });
  paintTheme();
}

function show(panel, open) {
  if (!open && panel.contains(document.activeElement)) document.activeElement.blur(); // what was typed there counts
  panel.hidden = !open;
  document.getElementById(panel === sidebar ? "menu" : "sliders").setAttribute("aria-expanded", open);
  shade.hidden = !NARROW.matches || (sidebar.hidden && settings.hidden);
  document.getElementById("main").inert = !shade.hidden;
}

/** Let the page, and the button that changes it, have the theme. */
export function paintTheme() {
  const { theme } = state.preferences;
  const dark = theme === "dark" || (theme === "auto" && DARK.matches);
  document.documentElement.classList.toggle("dark", dark);
  document.documentElement.classList.toggle("light", !dark);
  const button = document.getElementById("theme");
  button.title = `Theme: ${THEMES[theme]}`;
  button.setAttribute("aria-label", button.title);
}
