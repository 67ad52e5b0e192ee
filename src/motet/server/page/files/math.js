// Formulas, as models write them in LaTeX, as MathML, which browsers set by themselves. What isn't known here makes
// the whole formula stand as it was written.

import { ABOVE, BELOW, FUNCTIONS, INTEGRALS, LARGE, LETTERS, LIMITS, OPERATORS, SPACES, inAlphabet } from "./symbols.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const LONGEST = 4000; // characters
const DEPTH = 80; // of commands and brackets in each other
const TOKEN = /\\([A-Za-z]+\*?|[^])|\d+(?:[.,]\d+)*|\s+|[^]/gu;
const FENCES = new Map([["matrix", ""], ["smallmatrix", ""], ["pmatrix", "()"], ["bmatrix", "[]"], ["Bmatrix", "{}"], ["vmatrix", "||"], ["Vmatrix", "‖‖"], ["cases", "{"]]);
const LINED = new Set("aligned align align* split gather gather* gathered equation equation* alignedat array".split(" "));
const UPRIGHT = new Set("text textrm textbf textit texttt mathrm mathsf mathtt operatorname operatorname* mbox".split(" "));
const SKIPPED = new Set("displaystyle textstyle limits nolimits nonumber notag hline big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr".split(" "));

/** A `math` element for a formula; null where it can't be read. `block`: in a line of its own. */
export function math(source, block) {
  if (source.length > LONGEST || !source.trim()) return null;
  try {
    const reader = new Reader(source);
    const body = reader.table();
    if (reader.next !== undefined) return null; // a bracket too many
    const found = element("math", body);
    if (block) found.setAttribute("display", "block");
    found.setAttribute("alttext", source.trim());
    return found;
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

class Unreadable extends Error {}

class Reader {
  constructor(source) {
    this.tokens = [...source.matchAll(TOKEN)].map(([whole, command]) => (command === undefined ? whole : `\\${command}`));
    this.place = 0;
    this.depth = 0;
  }

  get next() {
    return this.tokens[this.place];
  }

  take() {
    if (this.next === undefined) throw new Unreadable();
    return this.tokens[this.place++];
  }

  takeIf(token) {
    const is = this.next === token;
    if (is) this.place++;
    return is;
  }

  skipBlanks() {
    while (this.next !== undefined && !this.next.trim()) this.place++;
  }

  /** Cells and lines up to what ends them; one cell alone is no table. `sides`: of columns, in turn. */
  table(sides = ["right", "left"]) {
    const rows = [[]];
    for (;;) {
      rows.at(-1).push(this.row());
      if (this.takeIf("&")) continue;
      if (!this.takeIf("\\\\")) break;
      this.option();
      rows.push([]);
    }
    if (rows.length > 1 && rows.at(-1).length === 1 && !rows.at(-1)[0].childNodes.length) rows.pop();
    if (rows.length === 1 && rows[0].length === 1) return rows[0];
    const cell = (content, column) => {
      const found = element("mtd", [content]);
      found.style.textAlign = sides[column % sides.length];
      return found;
    };
    return [element("mtable", rows.map((row) => element("mtr", row.map(cell))))];
  }

  /** What stands in a line, up to what ends it. */
  row() {
    const found = [];
    for (this.skipBlanks(); !ends(this.next); this.skipBlanks()) found.push(...this.withScripts());
    return element("mrow", found);
  }

  withScripts() {
    const base = this.next === "^" || this.next === "_" || this.next === "'" ? element("mrow") : this.atom();
    if (base === null) return [];
    let [below, above] = [null, null];
    for (this.skipBlanks(); ; this.skipBlanks()) {
      if (!below && this.takeIf("_")) below = this.argument();
      else if (!above && this.takeIf("^")) above = this.argument();
      else if (!above && this.next === "'") above = this.primes();
      else if (SKIPPED.has(this.next?.slice(1)) && this.next.includes("limits")) this.take();
      else break;
    }
    if (!below && !above) return [base];
    const [one, other, both] = base.stacks ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
    return [element(below && above ? both : below ? one : other, [base, below, above].filter(Boolean))];
  }

  primes() {
    let count = 0;
    while (this.takeIf("'")) count++;
    return operator("′".repeat(count));
  }

  /** What a command is given: in brackets, or one thing alone. */
  argument() {
    this.skipBlanks();
    if (ends(this.next) || "^_".includes(this.next)) throw new Unreadable();
    if (/^\d\d/.test(this.next)) {
      const digits = this.take(); // x^12 is x^1 2
      this.tokens.splice(this.place, 0, digits.slice(1));
      return element("mn", [digits[0]]);
    }
    return this.atom() ?? element("mrow");
  }

  /** In square brackets, or null. */
  option() {
    this.skipBlanks();
    if (this.next !== "[") return null;
    const end = this.tokens.indexOf("]", this.place);
    if (end < 0) throw new Unreadable();
    const inside = this.tokens.slice(this.place + 1, end);
    this.place = end + 1;
    return inside.join("");
  }

  /** In curly brackets, as it stands. */
  words() {
    this.skipBlanks();
    if (!this.takeIf("{")) return this.take();
    let found = "";
    for (let open = 1; ; ) {
      const token = this.take();
      if (token === "{") open++;
      else if (token === "}" && --open === 0) return found;
      else found += token.replace(/^\\([^A-Za-z])$/, "$1");
    }
  }

  atom() {
    if (++this.depth > DEPTH) throw new Unreadable();
    const found = this.read(this.take());
    this.depth--;
    return found;
  }

  read(token) {
    if (token === "{") return this.group();
    if (/^\d/.test(token)) return element("mn", [token]);
    if (token[0] === "\\" && token.length > 1) return this.command(token.slice(1));
    if (token === "~") return space(SPACES.get(" "));
    if (/\p{L}/u.test(token)) return element("mi", [token]);
    return operator({ "-": "−", "*": "∗" }[token] ?? token);
  }

  group() {
    const found = this.row();
    if (!this.takeIf("}")) throw new Unreadable();
    return found;
  }

  command(name) {
    if (LETTERS.has(name)) return element("mi", [LETTERS.get(name)]);
    if (OPERATORS.has(name)) return operator(OPERATORS.get(name));
    if (LARGE.has(name)) return stacking(operator(LARGE.get(name)));
    if (INTEGRALS.has(name)) return operator(INTEGRALS.get(name));
    if (FUNCTIONS.has(name)) return element("mi", [name]);
    if (LIMITS.has(name)) return stacking(operator(name.replace(/^(lim|arg)(.)/, "$1 $2"), { movablelimits: "true" }));
    if (SPACES.has(name)) return space(SPACES.get(name));
    if (SKIPPED.has(name)) return null;
    if (UPRIGHT.has(name)) return upright(name, this.words());
    if (ABOVE.has(name)) return this.marked("mover", ABOVE.get(name), name);
    if (BELOW.has(name)) return this.marked("munder", BELOW.get(name), name);
    if (!COMMANDS.has(name)) throw new Unreadable();
    return COMMANDS.get(name)(this);
  }

  /** With a sign above or below, which is as wide as all of it where its name says so. */
  marked(tag, sign, name) {
    const mark = operator(sign, { stretchy: String(/^(wide|over|under)/.test(name)) });
    return stacking(element(tag, [this.argument(), mark], { accent: "true" }), name.endsWith("brace"));
  }
}

const fraction = (reader) => element("mfrac", [reader.argument(), reader.argument()]);
const over = (reader) => {
  const above = reader.argument();
  return stacking(element("mover", [reader.argument(), above]));
};
const alphabet = (name) => (reader) => element("mi", [[...reader.words()].map((sign) => inAlphabet(name, sign)).join("")]);
const plain = (reader) => reader.argument();

const COMMANDS = new Map(Object.entries({
  frac: fraction,
  dfrac: fraction,
  tfrac: fraction,
  cfrac: fraction,
  overset: over,
  stackrel: over,
  mathbf: alphabet("mathbf"),
  boldsymbol: plain,
  mathbb: alphabet("mathbb"),
  mathcal: plain,
  mathit: plain,
  mathscr: plain,
  mathfrak: plain,
  underset(reader) {
    const below = reader.argument();
    return stacking(element("munder", [reader.argument(), below]));
  },
  binom: (reader) => fenced("(", ")", [element("mfrac", [reader.argument(), reader.argument()], { linethickness: "0" })]),
  sqrt(reader) {
    const degree = reader.option();
    const root = reader.argument();
    return degree === null ? element("msqrt", [root]) : element("mroot", [root, element("mtext", [degree])]);
  },
  boxed: (reader) => element("mrow", [reader.argument()], { class: "boxed" }),
  color(reader) {
    reader.words();
    return reader.next === "{" ? reader.argument() : null;
  },
  textcolor(reader) {
    reader.words();
    return reader.argument();
  },
  not: (reader) => operator(`${reader.argument().textContent}\u0338`),
  bmod: () => operator("mod"),
  mod: () => operator("mod"),
  pmod: (reader) => fenced("(", ")", [operator("mod"), reader.argument()]),
  tag: (reader) => element("mtext", [`\u2003(${reader.words()})`]),
  label(reader) {
    reader.words();
    return null;
  },
  left(reader) {
    const open = bracket(reader);
    const parts = [];
    for (;;) {
      parts.push(...reader.table());
      if (reader.takeIf("\\right")) return fenced(open, bracket(reader), parts);
      if (!reader.takeIf("\\middle")) throw new Unreadable();
      parts.push(operator(bracket(reader), { stretchy: "true" }));
    }
  },
  begin(reader) {
    const name = reader.words();
    const [open, close] = FENCES.get(name) ?? "";
    if (!LINED.has(name) && !FENCES.has(name)) throw new Unreadable();
    if (name === "array" || name === "alignedat") reader.words();
    const sides = name === "cases" ? ["left"] : LINED.has(name) && name !== "array" ? undefined : ["center"];
    const body = reader.table(sides);
    if (!reader.takeIf("\\end") || reader.words() !== name) throw new Unreadable();
    return fenced(open, close, body);
  },
}));

function ends(token) {
  return token === undefined || ["}", "&", "\\\\", "\\right", "\\middle", "\\end"].includes(token);
}

/** A bracket after \left or \right; a dot is none. */
function bracket(reader) {
  reader.skipBlanks();
  const token = reader.take();
  if (token === ".") return "";
  return token[0] === "\\" ? (OPERATORS.get(token.slice(1)) ?? token) : token;
}

function fenced(open, close, inside) {
  const side = (sign) => (sign ? [operator(sign, { stretchy: "true", fence: "true" })] : []);
  return element("mrow", [...side(open), ...inside, ...side(close)]);
}

/** Of it, what is below and above stands there, and not at its side. */
function stacking(made, does = true) {
  made.stacks = does;
  return made;
}

function upright(name, words) {
  const blanks = words.replace(/^ +| +$/g, (found) => "\u00a0".repeat(found.length)); // which would be lost
  return element(/^(text|mbox)/.test(name) ? "mtext" : "mi", [blanks], { mathvariant: "normal" });
}

/** Brackets are as high as what they enclose only where they are asked to be, by \left and \right. */
function operator(sign, attributes = {}) {
  return element("mo", [sign], { stretchy: "false", ...attributes });
}

function space(width) {
  return element("mspace", [], { width: `${width}em` });
}

function element(tag, children = [], attributes = {}) {
  const made = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
