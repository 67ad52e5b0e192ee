// Where conversations are kept: the browser's database. Other tabs are told what changes.
// Tokens with their probabilities are many, so they are kept apart and read when they are looked at.

let channel = null;
let database = null; // null: the browser keeps nothing, as in some private windows

/** Open it; whether conversations will be there again. */
export async function open() {
  try {
    database = await connected();
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
  return database ? done((await at("talks")).getAll()) : [];
}

export async function oneTalk(id) {
  return database ? done((await at("talks")).get(id)) : undefined;
}

export async function saveTalk(talk) {
  if (!database) return;
  await written((await at("talks", "readwrite")).put(talk));
  channel?.postMessage({ id: talk.id, gone: false });
}

export async function removeTalk(id) {
  if (!database) return;
  await written((await at("talks", "readwrite")).delete(id));
  const tokens = await at("tokens", "readwrite");
  for (const key of await done(tokens.index("talk").getAllKeys(id))) tokens.delete(key);
  channel?.postMessage({ id, gone: true });
}

/** The tokens of a message; undefined where none were kept. */
export async function tokensOf(node) {
  return database ? (await done((await at("tokens")).get(node.id)))?.tokens : undefined;
}

export async function saveTokens(talk, node, tokens) {
  if (database) await written((await at("tokens", "readwrite")).put({ id: node.id, talk: talk.id, tokens }));
}

export async function removeTokens(ids) {
  if (!database) return;
  const tokens = await at("tokens", "readwrite");
  for (const id of ids) tokens.delete(id);
}

function connected() {
  const opening = indexedDB.open("motet", 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore("talks", { keyPath: "id" });
    opening.result.createObjectStore("tokens", { keyPath: "id" }).createIndex("talk", "talk");
  };
  return done(opening);
}

/** A part of the database. It is opened again where the browser has closed it: its data were cleared, or a phone slept. */
async function at(name, mode = "readonly") {
  try {
    return database.transaction(name, mode).objectStore(name);
  } catch (error) {
    if (error.name !== "InvalidStateError") throw error;
    database = await connected();
    return database.transaction(name, mode).objectStore(name);
  }
}

/** The one change of a transaction: made also if the page is closed before it is heard of. */
function written(request) {
  request.transaction.commit();
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds the database"));
  });
}
