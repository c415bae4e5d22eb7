"use strict";
(() => {
  const AT_ONCE = 50; // rows that are drawn before "Show more"
  const LONG = 1200; // characters of an answer that are shown before "Show all"
  const QUIET_MS = 5000; // so long after the last key the page does not reload itself
  const MARKS = ["right", "wrong", "unsure"];
  const COLOURS = { invalid: "invalid", failed: "failed", missing: "missing", pending: "open" };
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);

  // All that comes from elsewhere becomes text, by `append` and `textContent` alone.
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== undefined));
    return made;
  }

  // What is kept in the browser: marks for good, the view until the tab is closed, so that a reload keeps it.
  const viewKey = "doubleword-view:" + data.jobs.map((job) => job.id).join(",");
  const marksKey = (job) => "doubleword-marks:" + data.jobs[job].id;
  let keeps = true;
  function kept(storage, key) {
    try {
      return JSON.parse(window[storage].getItem(key)) || {};
    } catch {
      keeps = false;
      return {};
    }
  }
  function keep(storage, key, value) {
    try {
      window[storage].setItem(key, JSON.stringify(value));
    } catch {
      keeps = false;
    }
  }
  const marks = data.jobs.map((_, job) => kept("localStorage", marksKey(job)));
  const former = kept("sessionStorage", viewKey);
  const view = { find: "", chosen: {}, drawn: AT_ONCE, ...former.view };

  // Filters
  const every = data.rows.flatMap((row) => row.answers);
  const models = new Set(every.map((one) => one.model).filter(Boolean));
  const flawsOf = (answer) => (answer.flaws ? answer.flaws.split(", ") : []);
  const markOf = (answer) => (marks[answer.job][answer.custom_id] || {}).mark || "none";
  const present = (values) => [...new Set(values)].sort();
  function fieldsOf(answer) {
    if (answer.fields === undefined) {
      answer.fields = {};
      try {
        if (answer.status === "succeeded" && answer.answer.startsWith("{")) answer.fields = JSON.parse(answer.answer);
      } catch {
        // no whole JSON, so it has no fields
      }
    }
    return answer.fields;
  }
  const words = (value) => [value].flat().map((one) => (one === null || typeof one !== "object" ? String(one) : ""));
  const filters = [
    { key: "state", name: "State", values: present(every.map((one) => one.status)), has: (one, value) => one.status === value },
    { key: "flaw", name: "Flaw", values: present(every.flatMap(flawsOf)), has: (one, value) => flawsOf(one).includes(value) },
    ...data.filters.map(({ name, values }) => ({
      key: "field " + name,
      name,
      values,
      has: (one, value) => Object.hasOwn(fieldsOf(one), name) && words(fieldsOf(one)[name]).includes(value),
    })),
    { key: "mark", name: "Mark", values: [...MARKS, "none"], has: (one, value) => markOf(one) === value },
  ];
  if (data.jobs.length > 1) {
    const values = data.jobs.map((job, number) => [String(number), job.name]);
    filters.unshift({ key: "job", name: "Job", values, has: (one, value) => String(one.job) === value });
  }
  const label = (value) => [value].flat().at(-1);
  const code = (value) => [value].flat()[0];
  // What was chosen before a reload may have no answers any more.
  const chosenOf = (one) => (one.values.some((value) => code(value) === view.chosen[one.key]) ? view.chosen[one.key] : "");
  const differing = { name: "Unlike answers only", row: (row) => row.differs === true };

  function haystack(row) {
    if (row.haystack === undefined) {
      const said = row.answers.flatMap((one) => [one.custom_id, one.answer, one.cause, ...one.prompt.map((at) => data.parts[at][1])]);
      row.haystack = [...row.cells, ...said].filter(Boolean).join("\n").toLowerCase();
    }
    return row.haystack;
  }
  function matches(row) {
    const asked = filters.map((one) => [one, chosenOf(one)]).filter(([, value]) => value);
    return (
      (!view.chosen.differing || differing.row(row)) &&
      view.find.toLowerCase().split(/\s+/).every((word) => haystack(row).includes(word)) &&
      row.answers.some((answer) => asked.every(([one, value]) => one.has(answer, value)))
    );
  }

  function drawFilters() {
    const form = byId("filters");
    const find = element("input", { type: "search", id: "find", autocomplete: "off", spellcheck: "false" });
    find.value = view.find;
    find.addEventListener("input", () => look({ find: find.value }));
    form.append(element("label", { class: "find" }, "Search in ids, source, prompts and answers", find));
    for (const one of filters) {
      if (!one.values.length) continue;
      const select = element("select", { id: "filter-" + one.key }, element("option", { value: "" }, "any"));
      for (const value of one.values) select.append(element("option", { value: code(value) }, label(value)));
      select.value = chosenOf(one);
      select.addEventListener("change", () => choose(one.key, select.value));
      form.append(element("label", {}, one.name, select));
    }
    if (data.rows.some(differing.row)) {
      const tick = element("input", { type: "checkbox", id: "differing" });
      tick.checked = Boolean(view.chosen.differing);
      tick.addEventListener("change", () => choose("differing", tick.checked));
      form.append(element("label", { class: "tick" }, tick, differing.name));
    }
    form.append(element("div", { id: "saving" }));
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  const choose = (key, value) => look({ chosen: { ...view.chosen, [key]: value } });
  function look(changed) {
    Object.assign(view, { drawn: AT_ONCE, ...changed });
    draw();
  }

  // Rows
  function draw() {
    const found = data.rows.filter(matches);
    byId("rows").replaceChildren(...found.slice(0, view.drawn).map(drawn));
    byId("shown").textContent = `${found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} rows match`;
    byId("more").hidden = found.length <= view.drawn;
    byId("more").textContent = `Show ${Math.min(AT_ONCE, found.length - view.drawn)} more`;
    drawSaving();
  }
  function drawn(row) {
    const title = element("h3", { id: `row-${row.job}-${row.answers[0].place}` }, row.answers[0].custom_id);
    const columns = data.jobs[row.job].columns;
    const cells = row.cells.flatMap((cell, at) => (cell ? [element("dt", {}, columns[at]), element("dd", { dir: "auto" }, cell)] : []));
    const answers = element("div", { class: "answers" }, ...row.answers.map((answer) => drawnAnswer(answer, row)));
    const sides = element("div", { class: "sides" }, cells.length ? element("dl", {}, ...cells) : undefined, answers);
    return element("article", { class: "row", "aria-labelledby": title.id }, title, sides);
  }
  function drawnAnswer(answer, row) {
    const key = `${answer.job}-${answer.place}`;
    const made = element("div", { class: "answer" });
    if (row.answers.length > 1 || data.jobs.length > 1) made.append(element("h4", {}, data.jobs[answer.job].name));
    const colour = COLOURS[answer.status] || (answer.flaws ? "flawed" : "good");
    const told = [answer.finish === "stop" || answer.flaws ? undefined : answer.finish, tokens(answer), models.size > 1 ? answer.model : undefined];
    const chips = [element("span", { class: "dot " + colour, "aria-hidden": "true" }), answer.status];
    made.append(
      element(
        "p",
        { class: "chips" },
        element("span", { class: "chip" }, ...chips),
        ...[...flawsOf(answer).filter((flaw) => flaw !== answer.status), ...told.filter(Boolean)].map((one) => element("span", { class: "chip" }, one)),
      ),
    );
    if (answer.cause) made.append(element("p", { class: "cause" }, answer.cause));
    if (answer.answer !== undefined) made.append(...drawnText(answer));
    if (answer.prompt.length) made.append(drawnPrompt(answer, key));
    if (answer.answer !== undefined) made.append(drawnMarks(answer, key));
    return made;
  }
  function tokens(answer) {
    return answer.completion_tokens === undefined ? undefined : `${answer.completion_tokens.toLocaleString("en")} tokens`;
  }
  function drawnText(answer) {
    const folded = answer.answer.length > LONG;
    const kind = "text" + (answer.answer.startsWith("{") ? " json" : "") + (folded ? " folded" : "");
    const text = element("div", { class: kind, dir: "auto" }, answer.answer);
    if (!folded) return [text];
    const button = element("button", { type: "button", class: "unfold" }, `Show all ${answer.answer.length.toLocaleString("en")} characters`);
    button.addEventListener("click", () => {
      text.classList.remove("folded");
      button.remove();
    });
    return [text, button];
  }
  function drawnPrompt(answer, key) {
    const details = element("details", { id: "prompt-" + key }, element("summary", {}, "Prompt"));
    details.addEventListener("toggle", () => {
      if (details.childElementCount > 1) return;
      for (const [role, said] of answer.prompt.map((at) => data.parts[at])) {
        details.append(element("h4", {}, role), element("pre", { dir: "auto" }, said));
      }
    });
    return details;
  }

  // Marks
  function drawnMarks(answer, key) {
    const box = element("fieldset", { class: "marks" }, element("legend", { class: "away" }, "Mark " + answer.custom_id));
    const own = () => marks[answer.job][answer.custom_id] || {};
    const buttons = MARKS.map((mark) => {
      const label = mark[0].toUpperCase() + mark.slice(1);
      const button = element("button", { type: "button", id: `mark-${mark}-${key}`, "aria-pressed": String(own().mark === mark) }, label);
      button.addEventListener("click", () => {
        change(answer, { mark: own().mark === mark ? "" : mark });
        buttons.forEach((one, at) => one.setAttribute("aria-pressed", String(own().mark === MARKS[at])));
      });
      return button;
    });
    const note = element("input", { class: "note", id: "note-" + key, placeholder: "Note", "aria-label": "Note on " + answer.custom_id });
    note.value = own().note || "";
    note.addEventListener("input", () => change(answer, { note: note.value }));
    box.append(...buttons, note);
    return box;
  }
  function change(answer, changed) {
    const own = { mark: "", note: "", ...marks[answer.job][answer.custom_id], ...changed };
    if (own.mark || own.note) marks[answer.job][answer.custom_id] = own;
    else delete marks[answer.job][answer.custom_id];
    keep("localStorage", marksKey(answer.job), marks[answer.job]);
    drawSaving();
  }
  function drawSaving() {
    const saving = byId("saving");
    const buttons = data.jobs.flatMap((job, number) => {
      const count = Object.keys(marks[number]).length;
      if (!count && data.jobs.length > 1) return [];
      const name = data.jobs.length > 1 ? `marks of ${job.name} (${count})` : `marks.csv (${count})`;
      const button = element("button", { type: "button", id: "save-" + number, disabled: !count }, "Save " + name);
      button.addEventListener("click", () => save(number));
      return [button];
    });
    const hint = keeps ? "retry_failed.py JOB --ids marks.csv asks again what is marked wrong." : "This browser keeps no marks: save them.";
    saving.replaceChildren(...buttons, element("span", { class: "told" }, buttons.length ? hint : "Nothing is marked yet."));
  }
  // A note that a spreadsheet would run gets a ' in front; an id is a key, and never changed.
  const harmless = (text) => (/^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) ? "'" + text : text);
  const cell = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  function save(job) {
    const lines = Object.entries(marks[job]).map(([id, { mark, note }]) => [id, mark, harmless(note)].map(cell).join(","));
    const file = new Blob([["custom_id,mark,note", ...lines, ""].join("\r\n")], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: data.jobs.length > 1 ? `${data.jobs[job].name}.marks.csv` : "marks.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // What stands elsewhere in the page leads here.
  document.addEventListener("click", (event) => {
    const { find, flaw } = event.target.dataset || {};
    if (find === undefined && flaw === undefined) return;
    view.find = find || "";
    view.chosen = flaw === undefined ? {} : { flaw };
    byId("filters").replaceChildren();
    drawFilters();
    look({});
    byId("answers").scrollIntoView();
  });
  const openNamed = () => {
    const named = byId(location.hash.slice(1));
    if (named && named.localName === "details") named.open = true;
  };
  window.addEventListener("hashchange", openNamed);
  byId("more").addEventListener("click", () => {
    view.drawn += AT_ONCE;
    draw();
  });
  window.addEventListener("pagehide", () => {
    const at = document.activeElement || {};
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
    keep("sessionStorage", viewKey, { view, open, scroll: window.scrollY, focus: at.id, caret: at.selectionStart });
  });

  // While jobs run the page is written anew now and then.
  const reloading = byId("reloading");
  if (reloading) {
    const every = Number(reloading.dataset.every);
    const tick = element("input", { type: "checkbox", id: "reload" });
    tick.checked = !view.still;
    tick.addEventListener("change", () => (view.still = !tick.checked));
    reloading.append(element("label", { class: "tick" }, tick, `Reload this page every ${every} s`));
    let typed = 0;
    document.addEventListener("input", () => (typed = Date.now()));
    setInterval(() => tick.checked && Date.now() - typed > QUIET_MS && location.reload(), 1000 * every);
  }

  openNamed();
  drawFilters();
  draw();
  for (const id of former.open || []) if (byId(id)) byId(id).open = true;
  if (former.focus && byId(former.focus)) {
    byId(former.focus).focus({ preventScroll: true });
    if (typeof former.caret === "number") byId(former.focus).setSelectionRange(former.caret, former.caret);
  }
  if (former.scroll) window.scrollTo({ top: former.scroll, behavior: "instant" });
})();
