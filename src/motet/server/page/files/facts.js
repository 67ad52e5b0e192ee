// What is known of an answer, in words.

const COUNT = new Intl.NumberFormat("en");

/** A line below an answer. `job`: the one that is written in its conversation, if any; `model`: the one that is served. */
export function facts(node, job, model) {
  if (node.role === "user") return "";
  if (job?.node === node) return progress(job);
  const { usage, timings } = node;
  const said = [];
  if (node.model && model && node.model !== model) said.push(node.model);
  if (usage) said.push(tokens(usage.written));
  if (timings?.answer > 0) said.push(`${rate(timings.answer)} a second`);
  if (usage) said.push(`prompt ${count(usage.prompt)}, ${count(usage.cached)} cached`);
  if (timings?.prompt > 0) said.push(`read at ${rate(timings.prompt)} a second`);
  if (node.state === "edited") said.unshift("edited");
  return said.join(" · ");
}

/** How an answer comes along. */
function progress({ node, progress: reading, waiting, rate: speed }) {
  if (waiting) return waiting.loading ? "The model is being loaded …" : "The server is busy; asking again soon …";
  if (reading && reading.computed < reading.total) {
    const [whole, part] = [reading.total - reading.cached, reading.computed - reading.cached];
    return `Reading ${count(whole)} tokens, ${Math.floor((100 * part) / whole)} % …`;
  }
  if (!node.usage?.written) return "…";
  return [tokens(node.usage.written), speed && `${rate(speed)} a second`].filter(Boolean).join(" · ");
}

/** What is wrong with an answer and what can be done: {text, act: "continue", "again", "answer" or "begin", bad}; null: nothing. */
export function troubleOf(node, state) {
  if (node.role === "user") return { text: "Not answered.", act: "answer", bad: false };
  switch (node.state) {
    case "stopped":
      return { text: "Stopped.", act: "continue", bad: false };
    case "length":
      return { text: "Cut at the limit of tokens.", act: "continue", bad: false };
    case "full":
      return { text: node.error ?? `The context of ${count(state.about?.context ?? 0)} tokens is full.`, act: "begin", bad: true };
    case "cut":
      return { text: node.error, act: "continue", bad: true };
    case "failed":
      return { text: node.error, act: "again", bad: true };
    case "done":
      return node.text ? null : { text: node.thought ? "It thought, and said nothing." : "The answer is empty.", act: "again", bad: false };
    default:
      return null;
  }
}

/** When a message was said, for those who point at it. */
export function when(node) {
  return new Date(node.created).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function count(number) {
  return COUNT.format(number);
}

function tokens(number) {
  return number === 1 ? "1 token" : `${count(number)} tokens`;
}

function rate(perSecond) {
  return perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}
