/* Keeps a page up to date. The server has escaped all that this script inserts. The script itself makes no markup. */
"use strict";

(() => {
  const EVERY_MS = 2000, SELDOM_MS = 10000, DEADLINE_MS = 8000, SLOWEST_MS = 30000;
  const GLYPHS = {p: "", r: "", s: "–", e: "✕", f: "✓"};
  const STATES = {p: "pending", r: "running", s: "stopped", e: "failed", f: "finished"};
  const main = document.getElementById("main");
  const lost = document.getElementById("lost");
  const connection = document.getElementById("connection");
  let failures = 0, lastAnswer = new Date(), over = false, timer = 0;

  document.documentElement.classList.add("scripted");

  const localTimes = (root) => {
    for (const element of root.querySelectorAll("time:not([data-local])")) {
      const at = new Date(element.dateTime);
      element.title = element.textContent;
      element.textContent = at.toLocaleString([], {dateStyle: "medium", timeStyle: "medium"});
      element.dataset.local = "";
    }
  };

  /* --- sections: replaced only where they differ, so that focus and selection stay ------------------------------- */

  const parsed = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    localTimes(holder.content);
    return holder.content;
  };

  const same = (one, other) => one.isEqualNode(other);

  const replaceKeyed = (section, content) => {
    const focused = section.contains(document.activeElement) ? document.activeElement : null;
    const wanted = [...content.children];
    const known = new Map([...section.children].map((child) => [child.id, child]));
    wanted.forEach((child, index) => {
      const old = child.id && known.get(child.id);
      let place = child;
      if (old && same(old, child)) place = old;
      else if (old && !old.contains(document.activeElement)) old.replaceWith(child);
      else if (old) { patch(old, child); place = old; }
      if (section.children[index] !== place) section.insertBefore(place, section.children[index] || null);
    });
    while (section.children.length > wanted.length) section.lastElementChild.remove();
    // An element that is moved loses the focus, so it gets the focus back.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({preventScroll: true});
  };

  /* Changes an element in place if the new one has the same structure. So an element keeps the focus. */
  const patch = (old, fresh) => {
    if (same(old, fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName
        || old.childNodes.length !== fresh.childNodes.length) { old.replaceWith(fresh); return; }
    if (old.nodeType === Node.ELEMENT_NODE) {
      for (const attribute of [...old.attributes]) if (!fresh.hasAttribute(attribute.name)) old.removeAttribute(attribute.name);
      for (const attribute of fresh.attributes) old.setAttribute(attribute.name, attribute.value);
    } else if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    const pairs = [...old.childNodes].map((child, index) => [child, fresh.childNodes[index]]);
    for (const [one, other] of pairs) patch(one, other);
  };

  const replaceSection = (name, html) => {
    const section = main.querySelector(`[data-section="${name}"]`);
    if (!section) return;
    const content = parsed(html);
    if ("keyed" in section.dataset) { replaceKeyed(section, content); return; }
    const holder = section.cloneNode(false);
    holder.append(content);
    patch(section, holder);
  };

  /* --- the grid ---------------------------------------------------------------------------------------------------- */

  const grid = document.getElementById("grid");
  const detail = document.getElementById("cell");
  // `current` is the chosen cell. `stop` is the cell that Tab reaches: the chosen cell, or any cell at first.
  let rows = new Map(), current = null, stop = null, detailTimer = 0;

  const ROW = '[role="row"]';  // the line with the numbers of the configurations is none
  const rowsOf = () => [...grid.querySelectorAll(ROW)];
  const cellsOf = (row) => row.lastElementChild.children;
  const readGrid = () => {
    rows = new Map(rowsOf().map((row) => [row.dataset.defocus, row]));
    stop = grid.querySelector('[tabindex="0"]');
    if (stop) nameCell(stop);
  };

  const place = (cell) => {
    const row = cell.closest(ROW);
    return {row, index: [...cell.parentElement.children].indexOf(cell)};
  };

  /* Sets the text that a screen reader says of a cell. Only one cell has it, because in all cells it would be most of
     the page. */
  const nameCell = (cell) => {
    const {row, index} = place(cell);
    const header = row.firstElementChild.firstChild.data.trim();
    const defocus = header.startsWith("defocus") ? header : `defocus ${header}`;
    const letter = cell.className[0];
    const percent = letter === "r" ? `, ${cell.textContent} %` : "";
    const again = cell.classList.contains("again") ? ", more than one attempt" : "";
    cell.setAttribute("aria-label", `${defocus}, configuration ${index}: ${STATES[letter]}${percent}${again}`);
  };

  const drawCells = (cells) => {
    const touched = new Set();
    for (const [key, configuration, letter, percent, attempt] of cells) {
      const row = rows.get(key), cell = row && cellsOf(row)[configuration];
      if (!cell) continue;
      cell.className = attempt > 1 ? `${letter} again` : letter;
      cell.textContent = letter === "r" ? String(percent) : GLYPHS[letter];
      touched.add(row);
      if (cell === stop) nameCell(cell);
      if (cell === current) showDetail(cell);
    }
    for (const row of touched) {
      const all = cellsOf(row);
      row.querySelector("small").textContent = `${row.querySelectorAll(".cells .f").length}/${all.length}`;
    }
  };

  /* Draws a new grid, and chooses the cell at the place of the cell that was chosen. It also keeps the focus. */
  const replaceGrid = (fresh) => {
    const chosen = current && {...place(current), focused: current === document.activeElement};
    const from = chosen && rowsOf().indexOf(chosen.row);
    grid.replaceChildren(parsed(fresh.html));
    grid.dataset.shape = fresh.shape;
    grid.className = `grid ${fresh.size}`;
    current = null;
    readGrid();
    const cell = chosen && cellLike(chosen, from);
    if (!cell) { detail.replaceChildren(); return; }
    choose(cell);
    if (chosen.focused) cell.focus({preventScroll: true});
  };

  /* The cell of the same defocus and configuration. A row of a defocus that has not started has no name, so the cell is
     then in the next row without a name. */
  const cellLike = ({row, index}, from) => {
    const all = rowsOf(), key = row.dataset.defocus;
    const found = key ? rows.get(key) : all.slice(from).find((other) => !other.dataset.defocus);
    const near = found || all[Math.min(from, all.length - 1)], cells = near ? cellsOf(near) : [];
    return cells[Math.min(index, cells.length - 1)];
  };

  const showDetail = (cell) => {
    clearTimeout(detailTimer);
    const {row, index} = place(cell);
    if (!row.dataset.defocus) { detail.textContent = "This defocus has not started."; return; }
    if (!detail.hasChildNodes()) detail.textContent = "Reading …";
    detailTimer = setTimeout(async () => {
      const query = new URLSearchParams({defocus: row.dataset.defocus, configuration: String(index)});
      try {
        const answer = await ask(`${main.dataset.cell}?${query}`);
        if (cell !== current) return;
        if (answer.ok) detail.replaceChildren(parsed(await answer.text()));
      } catch { detail.textContent = "The monitor does not answer."; }
    }, 120);
  };

  const choose = (cell) => {
    if (stop && stop !== cell) { stop.tabIndex = -1; stop.removeAttribute("aria-label"); }
    current?.removeAttribute("aria-selected");
    current = stop = cell;
    cell.tabIndex = 0;
    cell.setAttribute("aria-selected", "true");
    nameCell(cell);
    showDetail(cell);
  };

  /* The cell gets its name before it gets the focus, because a screen reader reads the name when the focus arrives. */
  const goTo = (cell) => { choose(cell); cell.focus(); };

  const move = (cell, key) => {
    const {row, index} = place(cell), all = cellsOf(row);
    switch (key) {
      case "ArrowRight": return all[index + 1];
      case "ArrowLeft": return all[index - 1];
      case "ArrowDown": return row.nextElementSibling && cellsOf(row.nextElementSibling)[index];
      case "ArrowUp": return row.previousElementSibling?.matches(ROW) && cellsOf(row.previousElementSibling)[index];
      case "Home": return all[0];
      case "End": return all[all.length - 1];
      default: return null;
    }
  };

  if (grid) {
    readGrid();
    grid.addEventListener("focusin", (event) => {
      if (event.target.getAttribute("role") === "gridcell") choose(event.target);
    });
    grid.addEventListener("click", (event) => {
      const cell = event.target.closest('[role="gridcell"]');
      if (cell) goTo(cell);
    });
    grid.addEventListener("keydown", (event) => {
      const target = event.target.getAttribute("role") === "gridcell" && move(event.target, event.key);
      if (target) { event.preventDefault(); goTo(target); }
    });
  }

  /* --- polling ----------------------------------------------------------------------------------------------------- */

  const ask = (address) => fetch(address, {
    signal: AbortSignal.timeout(DEADLINE_MS), credentials: "same-origin", headers: {Accept: "application/json, text/html"},
  });

  const address = () => {
    const query = new URLSearchParams(location.search);
    if (grid) {
      query.set("since", main.dataset.revision);
      query.set("run", main.dataset.run);
      query.set("shape", grid.dataset.shape);
    }
    return `${main.dataset.live}?${query}`;
  };

  const update = (content) => {
    for (const [name, html] of Object.entries(content.sections)) replaceSection(name, html);
    if (grid) {
      if (content.grid.html !== undefined) replaceGrid(content.grid);
      drawCells(content.cells);
      main.dataset.revision = content.revision;
      main.dataset.run = content.run;
      over = content.over;
      document.title = `${content.title} · Stemphony`;
    }
  };

  const connected = () => {
    failures = 0;
    lastAnswer = new Date();
    lost.hidden = true;
    main.classList.remove("old");
    connection.hidden = false;
    connection.className = "connection";
    connection.textContent = "live";
  };

  const disconnected = (why) => {
    failures += 1;
    if (failures < 2) return;
    const text = `${why} What is shown is as of ${lastAnswer.toLocaleTimeString()}; this page asks again by itself.`;
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
    main.classList.add("old");
    connection.className = "connection away";
    connection.textContent = "disconnected";
  };

  const poll = async () => {
    clearTimeout(timer);
    try {
      const answer = await ask(address());
      if (answer.ok) { update(await answer.json()); connected(); }
      else if (answer.status === 404) disconnected("This simulation is no longer there.");
      else disconnected(`The monitor answers ${answer.status}.`);
    } catch { disconnected("No connection to the monitor."); }
    const seldom = document.hidden || over;
    const pause = failures ? Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(failures - 1, 4)) : seldom ? SELDOM_MS : EVERY_MS;
    timer = setTimeout(poll, pause);
  };

  localTimes(document);
  if (main.dataset.live) {
    timer = setTimeout(poll, EVERY_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
    window.addEventListener("online", poll);
  }
})();
