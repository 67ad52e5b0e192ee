// Code in a few quiet colours: comments, strings, numbers and the words that most languages have.

import { h } from "./dom.js";

const HASH = "bash cmake dockerfile ini julia makefile perl py python r rb ruby sh shell toml yaml yml zsh";
const SLASH = "c c# c++ cpp cs css csharp dart go h hpp java javascript js json jsx kotlin php rs rust scala swift ts tsx typescript zig";
const DASH = "haskell hs lua sql";
const WORDS =
  "and as async await bool break case catch class const continue def default del do elif else end enum except export extends false finally float fn for from " +
  "func function if impl import in int interface is lambda let match mod mut new nil none not null of or pass private pub public raise return self static " +
  "string struct super switch then this throw true try type use var void where while with yield create insert into join on order by group set table update values";
const KEYWORDS = new Set(WORDS.split(" "));
const MOST = 50_000; // characters that are coloured
const LONGEST = "{0,2000}"; // string: one that nothing closes is not looked for much further, again and again

const COMMENTS = new Map([
  ...HASH.split(" ").map((name) => [name, "#.*"]),
  ...SLASH.split(" ").map((name) => [name, "\\/\\/.*|\\/\\*[^]*?(?:\\*\\/|$)"]),
  ...DASH.split(" ").map((name) => [name, "--.*"]),
]);
const REST = `("""[^]*?(?:"""|$)|"(?:\\\\.|[^"\\\\\\n])${LONGEST}"|'(?:\\\\.|[^'\\\\\\n])${LONGEST}'|\`(?:\\\\[^]|[^\\\\\`])${LONGEST}\`)|(\\b\\d[\\w.]*)|([A-Za-z_$][\\w$]*)`;

/** The nodes of some code; plain text where the language isn't known. */
export function highlight(code, language) {
  const comment = COMMENTS.get(language.toLowerCase());
  if (!comment || code.length > MOST) return [code];
  const nodes = [];
  let end = 0;
  for (const found of code.matchAll(new RegExp(`(${comment})|${REST}`, "g"))) {
    const [text, isComment, isString, isNumber] = found;
    const kind = isComment ? "comment" : isString ? "string" : isNumber ? "number" : KEYWORDS.has(text.toLowerCase()) ? "word" : null;
    if (!kind) continue;
    nodes.push(code.slice(end, found.index), h("span", { class: `code-${kind}` }, text));
    end = found.index + text.length;
  }
  return [...nodes, code.slice(end)].filter(Boolean);
}
