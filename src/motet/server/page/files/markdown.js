// Markdown as DOM nodes, block by block; HTML in it is text like any other. While an answer is written,
// blocks that haven't changed keep their nodes, so that what is selected stays so. Patterns are such that none goes
// over a line more than once, whatever is in it.

import { copyButton, h } from "./dom.js";
import { highlight } from "./highlight.js";
import { inline } from "./inline.js";

const DEPTH = 8; // of lists and quotes in each other
const COLUMNS = 200; // what has more is no table
const FENCE = /^( {0,3})(`{3,}|~{3,})/;
const FORMULA = /^ *(\\\[|\$\$|\\begin\{([a-zA-Z]+\*?)\})/;
const FORMULA_LINES = 100;
const HEADING = /^ {0,3}(#{1,6})\s/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;

/** Let `container` show `text`. */
export function show(container, text) {
  const wanted = blocks(text.split("\n"));
  const known = container.blocks ?? [];
  for (const [place, block] of wanted.entries()) {
    if (known[place] === block.source) continue;
    const node = build(block, 0);
    const old = container.children[place];
    if (old) old.replaceWith(node);
    else container.append(node);
  }
  while (container.children.length > wanted.length) container.lastElementChild.remove();
  container.blocks = wanted.map((block) => block.source);
}

/** What lines consist of: each block with its kind and its lines. */
function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const kind = kindOf(lines, at);
    const end = ENDS[kind](lines, at);
    const own = lines.slice(at, end);
    found.push({ kind, lines: own, source: `${kind}\n${own.join("\n")}` });
    at = end;
  }
  return found;
}

function kindOf(lines, at) {
  const line = lines[at];
  if (fenceOf(line)) return "code";
  if (FORMULA.test(line) && formulaEnd(lines, at) > at) return "formula";
  if (HEADING.test(line)) return "heading";
  if (isRule(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  if (ITEM.test(line)) return "list";
  return line.includes("|") && isTable(line, lines[at + 1] ?? "") ? "table" : "paragraph";
}

/** The fence that a line opens: {indent, mark, said}; null: none. */
function fenceOf(line) {
  const found = FENCE.exec(line);
  if (!found) return null;
  const said = line.slice(found[0].length);
  return said.includes("`") ? null : { indent: found[1], mark: found[2], said: said.trim() };
}

function isRule(line) {
  const sign = line[indentOf(line)];
  if (indentOf(line) > 3 || !"-*_".includes(sign)) return false;
  const signs = line.replace(/\s/g, "");
  return signs.length > 2 && signs === sign.repeat(signs.length);
}

function isTable(head, separator) {
  const marks = cells(separator);
  return marks.length <= COLUMNS && marks.every((mark) => /^:?-+:?$/.test(mark)) && marks.length === cells(head).length;
}

/** Where a block that begins at a line ends, by its kind. */
const ENDS = {
  heading: (_lines, at) => at + 1,
  rule: (_lines, at) => at + 1,
  formula: (lines, at) => formulaEnd(lines, at),
  code(lines, at) {
    const { mark } = fenceOf(lines[at]);
    for (at++; at < lines.length && !closes(lines[at], mark); ) at++;
    return Math.min(at + 1, lines.length);
  },
  quote(lines, at) {
    while (at < lines.length && QUOTE.test(lines[at])) at++;
    return at;
  },
  list(lines, at) {
    const ordered = isOrdered(lines[at]);
    const indent = ITEM.exec(lines[at])[1].length;
    for (at++; at < lines.length; at++) {
      const line = lines[at];
      const item = ITEM.exec(line);
      if (!line.trim()) {
        const next = lines[at + 1] ?? "";
        const goesOn = ITEM.test(next) ? isOrdered(next) === ordered || indentOf(next) > indent : indentOf(next) > indent;
        if (!goesOn || !next.trim()) return at;
      } else if (item ? item[1].length <= indent && isOrdered(line) !== ordered : indentOf(line) <= indent && kindOf(lines, at) !== "paragraph") {
        return at;
      }
    }
    return at;
  },
  table(lines, at) {
    for (at += 2; at < lines.length && lines[at].includes("|"); ) at++;
    return at;
  },
  paragraph(lines, at) {
    for (at++; at < lines.length && lines[at].trim(); at++) {
      const kind = kindOf(lines, at);
      if (kind !== "paragraph" && !(kind === "list" && /^\s*\d/.test(lines[at]) && !/^\s*1[.)]/.test(lines[at]))) break;
    }
    return at;
  },
};

/** Whether a line ends the code that `mark` began. */
function closes(line, mark) {
  return line.trim().startsWith(mark) && !line.trim().replaceAll(mark[0], "") && indentOf(line) <= 3;
}

/** After the line where the formula that begins at a line is closed; `at` where it isn't. */
function formulaEnd(lines, at) {
  const [, mark, name] = FORMULA.exec(lines[at]);
  const close = name ? `\\end{${name}}` : mark === "$$" ? "$$" : "\\]";
  const rest = lines.slice(at, at + FORMULA_LINES);
  rest[0] = rest[0].replace(mark, "");
  return at + 1 + rest.findIndex((line) => line.includes(close));
}

function build(block, depth) {
  return BUILDERS[depth < DEPTH ? block.kind : "paragraph"](block.lines, depth);
}

const BUILDERS = {
  paragraph: (lines) => h("p", {}, inline(lines.map((line) => line.trim()).join("\n"))),
  formula: (lines) => h("p", {}, inline(lines.join("\n"))),
  rule: () => h("hr"),
  heading(lines) {
    const [whole, marks] = HEADING.exec(lines[0]);
    const text = withoutMarks(lines[0].slice(whole.length).trim());
    return h(`h${Math.min(6, marks.length + 3)}`, { class: `size-${marks.length}` }, inline(text)); // below the page’s own
  },
  quote(lines, depth) {
    return h("blockquote", { dir: "auto" }, inside(lines.map((line) => line.replace(QUOTE, "")), depth));
  },
  code(lines) {
    const { indent, mark, said } = fenceOf(lines[0]);
    const closed = lines.length > 1 && closes(lines.at(-1), mark);
    const body = lines.slice(1, closed ? -1 : undefined);
    const text = body.map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line)).join("\n");
    const language = said.split(/\s/, 1)[0];
    const head = h("div", { class: "code-head" }, h("span", {}, language || "text"), copyButton("Copy the code", () => text));
    return h("div", { class: "code" }, head, h("pre", { tabindex: "0" }, h("code", {}, highlight(text, language))));
  },
  table(lines) {
    const sides = cells(lines[1]).map(side);
    const row = (line, tag) => {
      const own = cells(line).slice(0, sides.length);
      const rest = sides.length - own.length; // in one cell: a table may have no more of them than its text has bars
      const found = own.map((cell, place) => h(tag, { class: sides[place] }, inline(cell)));
      return h("tr", {}, found, rest > 0 && h(tag, { colspan: rest }));
    };
    const head = h("thead", {}, row(lines[0], "th"));
    const body = h("tbody", {}, lines.slice(2).map((line) => row(line, "td")));
    return h("div", { class: "table", dir: "auto", tabindex: "0", role: "group", "aria-label": "Table" }, h("table", {}, head, body));
  },
  list(lines, depth) {
    const items = [];
    const indent = indentOf(lines[0]);
    for (const line of lines) {
      const found = ITEM.exec(line);
      if (found && (found[1].length <= indent || !items.length)) {
        const width = found[0].length;
        items.push({ width, lines: [line.slice(width)], number: parseInt(found[2], 10) });
      } else {
        const item = items.at(-1);
        item.lines.push(line.slice(Math.min(item.width, indentOf(line))));
      }
    }
    const ordered = isOrdered(lines[0]);
    const start = ordered && items[0].number !== 1 ? items[0].number : null;
    return h(ordered ? "ol" : "ul", { start, dir: "auto" }, items.map((item) => itemOf(item.lines, depth)));
  },
};

function itemOf(lines, depth) {
  const task = /^\[([ xX])\] /.exec(lines[0]);
  if (task) lines = [lines[0].slice(4), ...lines.slice(1)];
  let children = inside(lines, depth);
  const first = children[0];
  if (first?.localName === "p" && !lines.some((line) => !line.trim())) children = [...first.childNodes, ...children.slice(1)];
  const box = task && h("input", { type: "checkbox", disabled: true, checked: task[1] !== " ", "aria-label": "Done" });
  return h("li", { class: task ? "task" : null }, box, children);
}

function inside(lines, depth) {
  return blocks(lines).map((block) => build(block, depth + 1));
}

/** A heading's text without the signs that close it: those of "One #", not of "C#". */
function withoutMarks(text) {
  let end = text.length;
  while (text[end - 1] === "#") end--;
  return end && text[end - 1].trim() ? text : text.slice(0, end).trimEnd();
}

/** A row's cells; a bar after a backslash, or in code, is text. */
function cells(line) {
  const found = [""];
  let code = false;
  const text = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "`") code = !code;
    if (text[at] === "\\" && text[at + 1] === "|") found[found.length - 1] += text[++at];
    else if (text[at] === "|" && !code) found.push("");
    else found[found.length - 1] += text[at];
  }
  return found.map((cell) => cell.trim());
}

function side(mark) {
  if (mark.endsWith(":")) return mark.startsWith(":") ? "centre" : "end";
  return null;
}

function isOrdered(line) {
  return /^ *\d/.test(line);
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}
