// The browser's small storages, or, where it allows none, what lasts as long as the page.

export const local = storage("localStorage");
export const session = storage("sessionStorage");

function storage(name) {
  try {
    window[name].getItem("motet");
    return window[name];
  } catch {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
    };
  }
}
