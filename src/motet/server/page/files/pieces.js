// An answer's tokens and its text. A token: {t: text, or b: bytes that are no text by themselves, p: log probability,
// a: alternatives, picked: chosen by the user}.

/** Tokens in groups that each are whole characters: {text, from, to (token numbers), start (in the joined text)}. */
export function groups(tokens) {
  const found = [];
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let start = 0;
  let from = 0;
  for (const [place, token] of tokens.entries()) {
    const last = place + 1 === tokens.length;
    const bytes = token.b ? Uint8Array.from(token.b) : encoder.encode(token.t);
    const text = decoder.decode(bytes, { stream: !last });
    if (!text && !last && bytes.length) continue; // a part of a character
    found.push({ text, from, to: place + 1, start });
    start += text.length;
    from = place + 1;
  }
  return found;
}

/** What an answer has to have said so that `alternative` comes instead of the tokens of `group`: {thought, text};
 * null where the tokens can't be found in the answer, or the alternative is a part of a character.
 *
 * `all`: the groups. A part of the text may be older than they are: the first `node.base` characters.
 */
export function instead(node, all, group, alternative) {
  if (alternative.t === undefined) return null;
  const joined = all.map((each) => each.text).join("");
  const base = node.text.slice(0, node.base ?? 0);
  const made = node.text.slice(base.length);
  const text = made ? joined.lastIndexOf(made) : joined.length;
  if (text < 0) return null;
  if (group.start + group.text.length > text) {
    const cut = group.start < text; // of the first token's text, the space in front
    const next = (cut && alternative.t.trimStart()) || alternative.t;
    return { thought: node.thought, text: base + made.slice(0, Math.max(0, group.start - text)) + next };
  }
  const thought = node.thought ? joined.indexOf(node.thought) : -1;
  const kept = group.start - thought;
  if (thought < 0 || kept < 0 || kept > node.thought.length) return null;
  return { thought: node.thought.slice(0, kept) + alternative.t, text: "" };
}

/** How probable a token was, in tenths: 10 is certain. */
export function tenths(token) {
  return Math.min(10, Math.floor(Math.exp(token.p) * 10 + 1e-6));
}

/** A share as people read it. */
export function percent(logprob) {
  const share = Math.exp(logprob) * 100;
  if (share >= 99.95) return "100 %";
  if (share >= 10) return `${share.toFixed(0)} %`;
  if (share >= 0.1) return `${share.toFixed(1)} %`;
  return "< 0.1 %";
}

/** A token's text where blanks are to be seen, and signs that have no shape, which may turn the line around. */
export function visible(piece) {
  if (piece.b) return piece.b.map(inHex).join("");
  const text = piece.t.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
  return text.replace(/[\p{Cc}\p{Cf}\p{Z}]/gu, (sign) => inHex(sign.codePointAt(0))) || "(nothing)";
}

function inHex(number) {
  return `<${number.toString(16).padStart(2, "0")}>`;
}
