(() => {
  "use strict";
  const FIRST = 50;
  const STEP = 200;
  const byId = (id) => document.getElementById(id);
  const body = byId("trials-body");
  if (!body || !byId("filter")) return;

  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const collator = new Intl.Collator(undefined, { numeric: true });
  const rows = [...body.rows].map((element, order) => {
    const values = {};
    [...element.cells].forEach((cell) => Object.assign(values, cell.dataset));
    const words = fold([...element.cells].map((cell) => cell.textContent).join(" "));
    return { element, order, values, words, kind: element.className };
  });
  const heads = [...document.querySelectorAll(".t-trials th[data-sort]")];
  const state = { head: heads[0], down: false, limit: FIRST };

  const fits = {
    all: () => true,
    alike: (row) => row.kind !== "behind",
    behind: (row) => row.kind === "behind",
  };

  const compare = (a, b) => {
    const field = state.head.dataset.sort;
    const x = a.values[field];
    const y = b.values[field];
    if (x === "" || y === "") return (x === "") - (y === "") || a.order - b.order;
    const numbers = [Number(x), Number(y)];
    const order = numbers.some(Number.isNaN) ? collator.compare(x, y) : numbers[0] - numbers[1];
    return (state.down ? -order : order) || a.order - b.order;
  };

  const draw = () => {
    const words = fold(byId("filter").value).split(/\s+/).filter(Boolean);
    const kind = fits[byId("kind").value];
    const found = rows.filter((row) => kind(row) && words.every((word) => row.words.includes(word)));
    found.sort(compare);
    const shown = found.slice(0, state.limit);
    body.replaceChildren(...shown.map((row) => row.element));
    if (!found.length) {
      const cell = body.insertRow().insertCell();
      cell.colSpan = heads.length + 1;
      cell.className = "soft";
      cell.textContent = "No trial fits. Clear the filters to see all.";
    }
    byId("trials-status").textContent =
      `Showing ${shown.length} of ${found.length} trials` +
      (found.length < rows.length ? ` that fit (${rows.length} in all)` : "");
    const left = found.length - shown.length;
    byId("trials-more").hidden = left === 0;
    byId("trials-more").textContent = `Show ${Math.min(STEP, left)} more`;
    heads.forEach((head) => {
      const on = head === state.head;
      head.setAttribute("aria-sort", on ? (state.down ? "descending" : "ascending") : "none");
    });
  };

  const again = () => { state.limit = FIRST; draw(); };
  byId("filter").addEventListener("input", again);
  byId("kind").addEventListener("change", again);
  byId("trials-clear").addEventListener("click", () => {
    byId("filter").value = "";
    byId("kind").value = "all";
    again();
  });
  byId("trials-more").addEventListener("click", () => { state.limit += STEP; draw(); });
  heads.forEach((head) => {
    head.querySelector("button").addEventListener("click", () => {
      state.down = state.head === head ? !state.down : "down" in head.dataset;
      state.head = head;
      again();
    });
  });
  let before = FIRST;
  addEventListener("beforeprint", () => { before = state.limit; state.limit = Infinity; draw(); });
  addEventListener("afterprint", () => { state.limit = before; draw(); });

  document.querySelectorAll("#trials .controls, #trials .more").forEach((e) => { e.hidden = false; });
  draw();
})();
