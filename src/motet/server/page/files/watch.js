// Is the server there, and what does it serve? Asked at the start, when one comes back to the page, and after it was
// lost until it is back.

import { about, isReady, setKey } from "./server.js";
import { emit, on, state } from "./state.js";

const EVERY = 2000; // milliseconds
let asking = false;

/** Find out what is served; ask again for as long as nobody answers. */
export async function watch() {
  on("lost", (kind) => (kind === "key" ? say("key") : look()));
  on("key", ({ key, stays }) => {
    setKey(key, stays);
    look();
  });
  window.addEventListener("online", look);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  await look();
}

async function look() {
  if (asking) return;
  asking = true;
  for (;;) {
    try {
      state.about = await about();
      say("ready");
      break;
    } catch (error) {
      if (error.kind === "key") {
        say("key");
        break;
      }
      say(error.loading ? "loading" : error.kind === "gone" ? "gone" : "odd", error.message);
    }
    do await new Promise((resolve) => setTimeout(resolve, EVERY));
    while (!(await isReady()));
  }
  asking = false;
}

function say(what, why = "") {
  state.server = what;
  state.why = why;
  emit("server");
}
