// What is said beside the conversation: short notices, the server's state, and answers to those who listen.

import { h, iconButton } from "./dom.js";
import { hasKey } from "./server.js";
import { emit, on, state } from "./state.js";

const STAYS = 8000; // milliseconds
const LISTEN_EVERY = 4000;

export function startNotices() {
  on("notice", show);
  on("server", drawServer);
  on("node", tell);
}

function show({ text, action, act }) {
  const box = h("div", { class: "notice", role: "status" }, h("span", {}, text));
  const close = () => box.remove();
  if (action) {
    const undo = () => {
      close();
      act();
    };
    box.append(h("button", { type: "button", class: "button", onclick: undo }, action));
  }
  box.append(iconButton("close", "Dismiss", close));
  document.getElementById("notices").append(box);
  setTimeout(close, STAYS);
}

function drawServer() {
  const banner = document.getElementById("banner");
  const said = {
    loading: "The model is being loaded …",
    gone: "The server can’t be reached. Asking again …",
    odd: `The server can’t be used for chats: ${state.why}`,
    key: "This server asks for an API key.",
  }[state.server];
  banner.hidden = !said;
  banner.replaceChildren(said ?? "");
  if (state.server !== "key") return;
  banner.append(h("button", { type: "button", class: "button", onclick: askForKey }, "Enter the key"));
  askForKey();
}

function askForKey() {
  const dialog = document.getElementById("key");
  if (dialog.open) return;
  const field = h("input", { class: "field", type: "password", autocomplete: "off", id: "key-field", required: true });
  const stays = h("input", { type: "checkbox" });
  const done = (event) => {
    event.preventDefault();
    dialog.close();
    emit("key", { key: field.value, stays: stays.checked });
  };
  const wrong = hasKey() ? "The server didn’t take that key." : "The server wants to know who asks.";
  dialog.replaceChildren(
    h(
      "form",
      { method: "dialog", onsubmit: done },
      h("h2", { id: "key-title" }, "API key"),
      h("p", {}, wrong),
      h("label", { class: "hidden", for: "key-field" }, "API key"),
      field,
      h("label", {}, stays, " Keep it in this browser; otherwise until this tab is closed"),
      h("div", { class: "row" }, h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Not now"), h("button", { class: "button strong" }, "Use it")),
    ),
  );
  dialog.showModal();
}

let heard = { id: null, length: 0, time: 0 };

/** For those who listen: an answer in whole sentences, some seconds apart, not token by token. */
function tell(node) {
  if (node !== state.writing.get(state.current.id)?.node && node.id !== heard.id) return;
  if (heard.id !== node.id) heard = { id: node.id, length: node.text.length, time: Date.now() };
  const ended = node.state !== "writing";
  if (!ended && Date.now() - heard.time < LISTEN_EVERY) return;
  const rest = node.text.slice(heard.length);
  const length = ended ? rest.length : (/^[^]*[.!?:\n](?=\s)/.exec(rest)?.[0].length ?? 0);
  if (length) document.getElementById("live").textContent = rest.slice(0, length);
  heard = { id: ended ? null : node.id, length: heard.length + length, time: Date.now() };
}
