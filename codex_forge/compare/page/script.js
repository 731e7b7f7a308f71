(() => {
  "use strict";
  const FIRST = 25;
  const STEP = 100;
  const byId = (id) => document.getElementById(id);

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => {
    closed.forEach((details) => { details.open = false; });
    closed = [];
  });

  const body = byId("questions-body");
  if (!body) return;

  const FIELDS = ["id", "question", "category", "difficulty", "baseline", "candidate", "difference"];
  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const rows = JSON.parse(byId("rows-data").textContent).map((cells, order) => {
    const row = { order };
    FIELDS.forEach((field, i) => { row[field] = cells[i]; });
    row.words = fold(`${row.id} ${row.question} ${row.category}`);
    return row;
  });
  const collator = new Intl.Collator(undefined, { numeric: true });
  const state = { field: "difference", down: true, shown: FIRST, rows: [] };

  const written = (value, signed) => {
    if (value === null) return "\u2013";
    const text = Math.abs(value).toFixed(2);
    if (Number(text) === 0) return text;
    return (value < 0 ? "\u2212" : signed ? "+" : "") + text;
  };
  const element = (name, text, className) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const choices = {};
  for (const field of ["category", "difficulty"]) {
    const values = [...new Set(rows.map((row) => row[field]))].sort(collator.compare);
    choices[field] = values;
    values.forEach((value, i) => {
      const option = element("option", value || "not given");
      option.value = String(i);
      byId(field).append(option);
    });
  }

  const compare = (a, b) => {
    const x = a[state.field];
    const y = b[state.field];
    let order;
    if (typeof x === "string") order = collator.compare(x, y);
    else if (x === null || y === null) return (x === null) - (y === null) || a.order - b.order;
    else order = x - y;
    return (state.down ? -order : order) || a.order - b.order;
  };

  const outcomes = {
    all: () => true,
    better: (row) => row.difference > 0,
    same: (row) => row.difference === 0,
    worse: (row) => row.difference !== null && row.difference < 0,
  };

  const line = (row) => {
    const tr = document.createElement("tr");
    const question = document.createElement("td");
    question.append(element("bdi", row.question), element("span", row.id, "under"));
    question.firstChild.dir = "auto";
    const effect = row.difference > 0 ? "better" : row.difference < 0 ? "worse" : "unclear";
    const difference = document.createElement("td");
    difference.className = `num ${effect}`;
    difference.append(element("b", written(row.difference, true)));
    tr.append(
      question,
      element("td", row.category || "\u2013"),
      element("td", row.difficulty || "\u2013"),
      element("td", written(row.baseline, false), "num"),
      element("td", written(row.candidate, false), "num"),
      difference,
    );
    return tr;
  };

  const draw = () => {
    const part = document.createDocumentFragment();
    state.rows.slice(0, state.shown).forEach((row) => part.append(line(row)));
    if (!state.rows.length) {
      const tr = document.createElement("tr");
      const td = element("td", "No question fits. Clear the filters to see all.", "soft");
      td.colSpan = 6;
      tr.append(td);
      part.append(tr);
    }
    body.replaceChildren(part);
    const visible = Math.min(state.shown, state.rows.length);
    byId("questions-status").textContent =
      `Showing ${visible} of ${state.rows.length} questions` +
      (state.rows.length < rows.length ? ` that fit (${rows.length} in all)` : "");
    const left = state.rows.length - visible;
    const more = byId("questions-more");
    more.disabled = left === 0;
    more.textContent = left ? `Show ${Math.min(STEP, left)} more` : "All are shown";
    document.querySelectorAll("th[data-field]").forEach((th) => {
      const on = th.dataset.field === state.field;
      th.setAttribute("aria-sort", on ? (state.down ? "descending" : "ascending") : "none");
    });
  };

  const refresh = () => {
    const words = fold(byId("filter").value).split(/\s+/).filter(Boolean);
    const wanted = ["category", "difficulty"].map((field) => {
      const value = byId(field).value;
      return [field, value === "all" ? null : choices[field][Number(value)]];
    });
    const fits = outcomes[byId("outcome").value];
    state.rows = rows.filter((row) =>
      fits(row) &&
      wanted.every(([field, value]) => value === null || row[field] === value) &&
      words.every((word) => row.words.includes(word))).sort(compare);
    state.shown = FIRST;
    draw();
  };

  byId("filter").addEventListener("input", refresh);
  ["category", "difficulty", "outcome"].forEach((id) => byId(id).addEventListener("change", refresh));
  byId("questions-clear").addEventListener("click", () => {
    byId("filter").value = "";
    ["category", "difficulty", "outcome"].forEach((id) => { byId(id).value = "all"; });
    refresh();
  });
  byId("questions-more").addEventListener("click", () => { state.shown += STEP; draw(); });
  document.querySelectorAll("th[data-field] button").forEach((button) => {
    button.addEventListener("click", () => {
      const field = button.closest("th").dataset.field;
      const number = ["baseline", "candidate", "difference"].includes(field);
      state.down = state.field === field ? !state.down : number;
      state.field = field;
      refresh();
    });
  });

  refresh();
})();
