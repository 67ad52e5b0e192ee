// Conversations as files: out, and in again.

import * as actions from "./actions.js";
import { h } from "./dom.js";
import { emit, notice, state } from "./state.js";
import { readTalk, titleOf } from "./tree.js";
import { keepTokens, save, tokensOf } from "./writer.js";

const FORMAT = "motet-conversations";
const MOST_BYTES = 256 * 2 ** 20;

/** Give the user a file of these. */
export async function exportTalks(talks) {
  if (!talks.length) return notice("There are no conversations yet.");
  const conversations = [];
  for (const talk of talks) {
    const tokens = {};
    for (const node of Object.values(talk.nodes)) {
      const own = await tokensOf(node);
      if (own.length) tokens[node.id] = own;
    }
    conversations.push({ ...talk, title: titleOf(talk), tokens });
  }
  const file = new Blob([JSON.stringify({ format: FORMAT, version: 1, conversations })], { type: "application/json" });
  const address = URL.createObjectURL(file);
  const name = talks.length === 1 ? titleOf(talks[0]).replace(/[^\p{L}\p{N} _-]+/gu, "").slice(0, 60).trim() : "";
  h("a", { href: address, download: `${name || "conversations"}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Take in what files hold; what is no conversation is refused with a word of why. */
export async function importFiles(files) {
  let last = null;
  let count = 0;
  for (const file of files) {
    try {
      if (file.size > MOST_BYTES) throw new Error("it is too large");
      const data = JSON.parse(await file.text());
      if (data?.format !== FORMAT || !Array.isArray(data.conversations)) throw new Error("it holds no conversations of Motet’s");
      for (const each of data.conversations) {
        last = await take(each);
        count++;
      }
    } catch (error) {
      const why = error instanceof SyntaxError ? "it is no JSON" : error.message;
      notice(`${file.name} could not be imported: ${why}.`);
    }
  }
  if (!last) return;
  emit("talks");
  actions.open(last);
  notice(count === 1 ? "One conversation was imported." : `${count} conversations were imported.`);
}

async function take(data) {
  const { talk, ids } = readTalk(data);
  for (const [id, tokens] of Object.entries(data.tokens ?? {})) {
    const node = talk.nodes[ids.get(id)];
    if (node && Array.isArray(tokens) && tokens.every(isToken)) await keepTokens(talk, node, tokens);
  }
  state.talks.set(talk.id, talk);
  await save(talk);
  return talk;
}

function isToken(token) {
  return isPiece(token) && Array.isArray(token.a) && token.a.every(isPiece);
}

function isPiece(piece) {
  if (typeof piece !== "object" || piece === null || !Number.isFinite(piece.p)) return false;
  return typeof piece.t === "string" || (Array.isArray(piece.b) && piece.b.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256));
}
