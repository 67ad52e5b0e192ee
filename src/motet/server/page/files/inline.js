// Markdown inside of a line as DOM nodes: code, emphasis, links, formulas. What is not closed stays text.

import { h } from "./dom.js";
import { math } from "./math.js";

const DEPTH = 6; // of emphasis in emphasis in links
const LABEL = 600; // characters of a link's text, and of its address
const ADDRESS = 2000;
const FORMULA = 1000; // characters between single dollars
const LONGEST = 4000; // and in an environment

/** The nodes of some text. */
export function inline(text, depth = 0) {
  const nodes = [];
  const missing = new Set(); // marks that nothing closes from here on
  let plain = "";
  let at = 0;
  while (at < text.length) {
    const rule = depth < DEPTH ? RULES[text[at]] : undefined;
    const found = rule?.(text, at, depth, missing);
    if (!found) {
      plain += text[at++];
      continue;
    }
    if (found.plain !== undefined) {
      plain += found.plain;
    } else {
      if (plain) nodes.push(document.createTextNode(plain));
      plain = "";
      nodes.push(...found.nodes);
    }
    at = found.end;
  }
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}

const RULES = {
  "\\": escaped,
  $: dollars,
  "`": code,
  "*": emphasis,
  _: emphasis,
  "~": struck,
  "[": link,
  "!": picture,
  "<": pointed,
  h: bare,
  "\n": lineBreak,
};

/** An address that may be opened: nothing but http and https. */
export function safeAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

function anchor(address, children) {
  return h("a", { href: address, title: address, target: "_blank", rel: "noopener noreferrer" }, children);
}

function escaped(text, at, _depth, missing) {
  const next = text[at + 1];
  if (next === "(") return formula(text, at, "\\(", "\\)", false, missing);
  if (next === "[") return formula(text, at, "\\[", "\\]", true, missing);
  const named = next === "b" && /^\\begin\{([a-zA-Z]+\*?)\}/.exec(text.slice(at, at + 40));
  if (named) return environment(text, at, named[1]);
  return next && /[!-/:-@[-`{-~]/.test(next) ? { plain: next, end: at + 2 } : null;
}

/** Between dollars, unless these are sums of money. */
function dollars(text, at, _depth, missing) {
  if (text[at + 1] === "$") return formula(text, at, "$$", "$$", true, missing);
  if (isWord(text[at - 1])) return null;
  const found = /^\$(?![\s\d][^$\\^_=]*\$)(?!\s)((?:[^$\\\n]|\\.)+)\$(?!\w)/.exec(text.slice(at, at + FORMULA));
  return found && !isSpace(found[1].at(-1)) ? asFormula(found[0], found[1], false, at) : null;
}

function formula(text, at, open, close, block, missing) {
  if (missing.has(close)) return { plain: open, end: at + open.length };
  const end = text.indexOf(close, at + open.length);
  if (end < 0) missing.add(close);
  if (end < 0) return { plain: open, end: at + open.length };
  return asFormula(text.slice(at, end + close.length), text.slice(at + open.length, end), block, at);
}

/** Lines that are aligned, and what else stands without marks around it. */
function environment(text, at, name) {
  const close = `\\end{${name}}`;
  const near = text.slice(at, at + LONGEST);
  const end = near.indexOf(close);
  if (end < 0) return null;
  const whole = near.slice(0, end + close.length);
  return asFormula(whole, whole, true, at);
}

/** What can't be set stands as it was written, and nothing in it is emphasis. */
function asFormula(whole, inside, block, at) {
  return { nodes: [math(inside, block) ?? h("code", {}, whole)], end: at + whole.length };
}

function code(text, at, _depth, missing) {
  let end = at;
  while (text[end] === "`") end++;
  const mark = text.slice(at, end);
  if (missing.has(mark)) return { plain: mark, end };
  for (let close = text.indexOf(mark, end); close >= 0; ) {
    let after = close;
    while (text[after] === "`") after++;
    if (after - close === mark.length) {
      const inside = text.slice(end, close).replaceAll("\n", " ");
      const padded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim();
      return { nodes: [h("code", {}, padded ? inside.slice(1, -1) : inside)], end: after };
    }
    close = text.indexOf(mark, after);
  }
  missing.add(mark);
  return { plain: mark, end };
}

function emphasis(text, at, depth, missing) {
  const sign = text[at];
  if (sign === "_" && isWord(text[at - 1])) return null;
  const double = text[at + 1] === sign;
  for (const mark of double ? [sign + sign, sign] : [sign]) {
    const from = at + mark.length;
    if (missing.has(mark) || !text[from] || isSpace(text[from])) continue;
    const close = closing(text, from, mark);
    if (close < 0) missing.add(mark);
    else if (close > from) {
      const children = inline(text.slice(from, close), depth + 1);
      return { nodes: [h(mark.length === 2 ? "strong" : "em", {}, children)], end: close + mark.length };
    }
  }
  return double ? { plain: sign + sign, end: at + 2 } : null;
}

/** Where a mark closes what began before `from`; -1: nowhere. */
function closing(text, from, mark) {
  const sign = mark[0];
  for (let at = text.indexOf(mark, from); at >= 0; at = text.indexOf(mark, at)) {
    let end = at;
    while (text[end] === sign) end++;
    const long = end - at;
    const closes = !isSpace(text[at - 1]) && !(sign === "_" && isWord(text[end]));
    if (closes && (long === mark.length || long > 2)) return end - mark.length;
    at = end;
  }
  return -1;
}

function struck(text, at, depth, missing) {
  if (!text.startsWith("~~", at) || missing.has("~~")) return null;
  const close = text.indexOf("~~", at + 2);
  if (close < 0) missing.add("~~");
  if (close <= at + 2) return null;
  return { nodes: [h("del", {}, inline(text.slice(at + 2, close), depth + 1))], end: close + 2 };
}

function link(text, at, depth) {
  const found = linkParts(text, at);
  const address = found && safeAddress(found.address);
  if (!address) return null;
  return { nodes: [anchor(address, inline(found.label, depth + 1))], end: found.end };
}

/** A picture is a link to it: the page fetches nothing. */
function picture(text, at) {
  const found = text[at + 1] === "[" ? linkParts(text, at + 1) : null;
  const address = found && safeAddress(found.address);
  return address ? { nodes: [anchor(address, found.label || address)], end: found.end } : null;
}

function linkParts(text, at) {
  let open = 0;
  let close = at;
  for (; close < Math.min(text.length, at + LABEL); close++) {
    if (text[close] === "\\") close++;
    else if (text[close] === "[") open++;
    else if (text[close] === "]" && --open === 0) break;
  }
  if (text[close] !== "]" || text[close + 1] !== "(" || open) return null;
  const rest = text.slice(close + 2, close + 2 + ADDRESS);
  const found = /^<?((?:[^\s()<>]|\([^\s()]*\))*)>?(?:\s+["'(][^"')]*["')])?\s*\)/.exec(rest);
  return found && { label: text.slice(at + 1, close), address: found[1], end: close + 2 + found[0].length };
}

/** An address in pointed brackets, or the one tag that is not just text: models break lines in tables' cells with it. */
function pointed(text, at) {
  const broken = /^<br ?\/?>/i.exec(text.slice(at, at + 6));
  if (broken) return { nodes: [h("br")], end: at + broken[0].length };
  const found = /^<(https?:\/\/[^\s<>]{1,2000})>/.exec(text.slice(at, at + ADDRESS + 2));
  const address = found && safeAddress(found[1]);
  return address ? { nodes: [anchor(address, found[1])], end: at + found[0].length } : null;
}

function bare(text, at) {
  if (isWord(text[at - 1]) || !/^https?:\/\//.test(text.slice(at, at + 8))) return null;
  const found = /^https?:\/\/[^\s<>"'`]+/.exec(text.slice(at, at + ADDRESS));
  if (!found) return null;
  let shown = found[0].replace(/[.,:;!?*_~\]]+$/, "");
  while (shown.endsWith(")") && !shown.includes("(")) shown = shown.slice(0, -1);
  const address = safeAddress(shown);
  return address ? { nodes: [anchor(address, shown)], end: at + shown.length } : null;
}

/** Models break lines where they mean it. */
function lineBreak(_text, at) {
  return { nodes: [h("br")], end: at + 1 };
}

function isSpace(sign) {
  return sign === undefined || /\s/.test(sign);
}

function isWord(sign) {
  return sign !== undefined && /[\p{L}\p{N}_]/u.test(sign);
}
