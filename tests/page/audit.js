// Looks through a page: the contrast of each text, worst first; what can be used and has no name; ids that come twice.
() => {
  const contrasts = () => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const read = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const over = ([r, g, b, a], [R, G, B]) =>
      [[r, R], [g, G], [b, B]].map(([x, y]) => (x * a + y * (255 - a)) / 255);
    const light = (rgb) => {
      const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      const own = read(getComputedStyle(element).backgroundColor);
      if (own[3] === 255 || !element.parentElement) return own.slice(0, 3);
      return over(own, ground(element.parentElement));
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const element = walk.currentNode.parentElement;
      const box = element.getBoundingClientRect();
      if (!walk.currentNode.data.trim() || box.width < 2 || !element.checkVisibility()) continue;
      if (element.closest('.hidden, [disabled], .skip')) continue;
      const below = ground(element);
      const [one, other] = [light(over(read(getComputedStyle(element).color), below)), light(below)];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      found.push([ratio, walk.currentNode.data.trim().slice(0, 30)]);
    }
    found.sort((a, b) => a[0] - b[0]);
    return found;
  };
  const usable = "button, a, input, textarea, select, [role=button], dialog[open]";
  const name = (each) =>
    each.getAttribute("aria-label") ||
    each.labels?.length ||
    each.innerText?.trim() ||
    document.getElementById(each.getAttribute("aria-labelledby"));
  const nameless = [...document.querySelectorAll(usable)]
    .filter((each) => each.checkVisibility() && !each.closest("[inert]") && !name(each))
    .map((each) => each.outerHTML);
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  const twice = ids.filter((id, place) => ids.indexOf(id) !== place);
  return { contrasts: contrasts(), nameless, twice };
}
