// A conversation as a tree: each message may have been said in several ways, and each way has a future
// of its own. Plain data, so that it can be kept and exported as it is.

const SETTINGS = {
  system: "string",
  temperature: "number",
  top_p: "number",
  top_k: "number",
  min_p: "number",
  repeat_penalty: "number",
  seed: "number",
  max_tokens: "number",
  stop: "strings",
  thinking: "boolean",
};
const STATES = ["writing", "done", "stopped", "length", "full", "cut", "failed", "edited"];
const NUMBERS = { usage: ["prompt", "cached", "written"], timings: ["prompt", "answer", "first"] };
const MOST_NODES = 20_000;

/** One that nobody has; crypto.randomUUID would need a secure origin. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newTalk(settings = {}) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, settings: { ...settings }, nodes: {}, chosen: {} };
}

/** Add a message after `parent` (null: at the beginning), and let it be the one that is shown. */
export function add(talk, parent, role, fields = {}) {
  const node = { id: newId(), parent: parent?.id ?? "", role, text: "", state: "done", created: Date.now(), ...fields };
  talk.nodes[node.id] = node;
  talk.chosen[node.parent] = node.id;
  talk.updated = node.created;
  return node;
}

/** The messages that are shown, in order. */
export function path(talk) {
  const found = [];
  for (let id = talk.chosen[""]; id; id = talk.chosen[id]) found.push(talk.nodes[id]);
  return found;
}

/** The messages before one. */
export function before(talk, node) {
  const found = [];
  for (let id = node.parent; id; id = talk.nodes[id].parent) found.unshift(talk.nodes[id]);
  return found;
}

/** All ways in which a message was said, the oldest first. */
export function siblings(talk, node) {
  return Object.values(talk.nodes).filter((other) => other.parent === node.parent);
}

/** The same of every message, by the id of the one that they follow. */
export function allSiblings(talk) {
  const found = new Map();
  for (const node of Object.values(talk.nodes)) {
    if (!found.has(node.parent)) found.set(node.parent, []);
    found.get(node.parent).push(node);
  }
  return found;
}

/** Show a message, and what was shown after it last. */
export function choose(talk, node) {
  talk.chosen[node.parent] = node.id;
}

/** Forget a message and all that follows it; what is gone, for `restore`. */
export function remove(talk, node) {
  const others = siblings(talk, node);
  const place = others.indexOf(node);
  const next = others[place + 1] ?? others[place - 1];
  const ids = new Set([node.id]);
  for (const each of Object.values(talk.nodes)) if (ids.has(each.parent)) ids.add(each.id); // children come later
  const gone = { nodes: [...ids].map((id) => talk.nodes[id]), chosen: { [node.parent]: node.id }, order: Object.keys(talk.nodes) };
  for (const id of ids) {
    if (talk.chosen[id]) gone.chosen[id] = talk.chosen[id];
    delete talk.nodes[id];
    delete talk.chosen[id];
  }
  if (next) talk.chosen[node.parent] = next.id;
  else delete talk.chosen[node.parent];
  return gone;
}

/** Have back what `remove` took, beside what was said since; whether what it followed is still there. */
export function restore(talk, gone) {
  const { parent } = gone.nodes[0];
  if (parent && !talk.nodes[parent]) return false;
  const all = { ...talk.nodes, ...Object.fromEntries(gone.nodes.map((node) => [node.id, node])) };
  const order = new Set([...gone.order.filter((id) => all[id]), ...Object.keys(all)]);
  talk.nodes = Object.fromEntries([...order].map((id) => [id, all[id]]));
  Object.assign(talk.chosen, gone.chosen);
  return true;
}

/** Let a conversation be as it was saved elsewhere; messages that it has keep their identity. */
export function update(talk, saved) {
  for (const [id, node] of Object.entries(saved.nodes)) if (talk.nodes[id]) saved.nodes[id] = Object.assign(talk.nodes[id], node);
  Object.assign(talk, saved);
}

/** What the list of conversations calls it. */
export function titleOf(talk) {
  if (talk.title) return talk.title;
  const first = talk.nodes[talk.chosen[""]];
  const line = first?.text.trim().split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line || "New conversation";
}

/** Whether all words are in the title or in a message. */
export function mentions(talk, words) {
  const text = [titleOf(talk), ...Object.values(talk.nodes).map((node) => node.text)].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** A conversation from a file, and its messages' ids by those in the file. Raises Error, which says what is wrong. */
export function readTalk(data) {
  need(isObject(data) && isObject(data.nodes), "it is no conversation");
  const talk = newTalk(readSettings(data.settings ?? {}));
  if (typeof data.title === "string") talk.title = data.title.slice(0, 200);
  if (Number.isFinite(data.created)) talk.created = data.created;
  if (Number.isFinite(data.updated)) talk.updated = data.updated;
  const nodes = Object.values(data.nodes);
  need(nodes.length <= MOST_NODES, "it has too many messages");
  const ids = new Map();
  for (const node of nodes) {
    need(isObject(node) && ["user", "assistant"].includes(node.role), "a message has no known role");
    need(typeof node.text === "string", "a message has no text");
    need(!node.parent || ids.has(node.parent), "a message comes before the one that it follows");
    const own = { id: newId(), parent: ids.get(node.parent) ?? "", role: node.role, text: node.text };
    own.state = STATES.includes(node.state) && node.state !== "writing" ? node.state : "done";
    own.created = Number.isFinite(node.created) ? node.created : talk.created;
    if (typeof node.thought === "string") own.thought = node.thought;
    if (typeof node.model === "string") own.model = node.model.slice(0, 200);
    if (Number.isInteger(node.base) && node.base >= 0) own.base = node.base;
    if (typeof node.error === "string") own.error = node.error.slice(0, 1000);
    for (const [name, parts] of Object.entries(NUMBERS)) if (isObject(node[name])) own[name] = numbers(node[name], parts);
    ids.set(node.id, own.id);
    talk.nodes[own.id] = own;
    talk.chosen[own.parent] ??= own.id;
  }
  for (const [parent, child] of Object.entries(isObject(data.chosen) ? data.chosen : {})) {
    const own = talk.nodes[ids.get(child)];
    if (own && own.parent === (ids.get(parent) ?? "")) talk.chosen[own.parent] = own.id;
  }
  return { talk, ids };
}

/** Those settings that are known and of the right type. */
export function readSettings(data) {
  const found = {};
  for (const [name, type] of Object.entries(SETTINGS)) {
    const value = data[name];
    const right = type === "strings" ? Array.isArray(value) && value.every((each) => typeof each === "string") : typeof value === type;
    if (right && (type !== "number" || Number.isFinite(value))) found[name] = value;
  }
  return found;
}

function numbers(object, names) {
  return Object.fromEntries(names.map((name) => [name, Number.isFinite(object[name]) ? object[name] : 0]));
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function need(holds, message) {
  if (!holds) throw new Error(message);
}
