// Where conversations are kept: the browser's database. Other tabs are told what changes.
// Tokens with their probabilities are many, so they are kept apart and read when they are looked at.

let channel = null;
let database = null; // null: the browser keeps nothing, as in some private windows

/** Open it; whether conversations will be there again. */
export async function open() {
  try {
    const opening = indexedDB.open("motet", 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore("talks", { keyPath: "id" });
      opening.result.createObjectStore("tokens", { keyPath: "id" }).createIndex("talk", "talk");
    };
    database = await done(opening);
  } catch {
    database = null;
  }
  return database !== null;
}

/** Call `changed({id, gone})` when another tab has saved a conversation, or removed it. */
export function onChange(changed) {
  if (!database) return;
  channel = new BroadcastChannel("motet");
  channel.onmessage = (event) => changed(event.data);
}

export async function allTalks() {
  return database ? done(at("talks").getAll()) : [];
}

export async function oneTalk(id) {
  return database ? done(at("talks").get(id)) : undefined;
}

export async function saveTalk(talk) {
  if (!database) return;
  await done(at("talks", "readwrite").put(talk));
  channel?.postMessage({ id: talk.id, gone: false });
}

export async function removeTalk(id) {
  if (!database) return;
  await done(at("talks", "readwrite").delete(id));
  const tokens = at("tokens", "readwrite");
  for (const key of await done(tokens.index("talk").getAllKeys(id))) tokens.delete(key);
  channel?.postMessage({ id, gone: true });
}

/** The tokens of a message; undefined where none were kept. */
export async function tokensOf(node) {
  return database ? (await done(at("tokens").get(node.id)))?.tokens : undefined;
}

export async function saveTokens(talk, node, tokens) {
  if (database) await done(at("tokens", "readwrite").put({ id: node.id, talk: talk.id, tokens }));
}

export async function removeTokens(ids) {
  if (!database) return;
  const tokens = at("tokens", "readwrite");
  for (const id of ids) tokens.delete(id);
}

function at(name, mode = "readonly") {
  return database.transaction(name, mode).objectStore(name);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds the database"));
  });
}
