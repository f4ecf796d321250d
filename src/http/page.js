const by = (id) => document.getElementById(id);
// Spans of the graphs: how far back, how much time a point stands for, and which list has the points.
const SPANS = [
  { name: "10 min", list: "samples", span: 600, step: 1, keep: 600 },
  { name: "1 h", list: "hour", span: 3600, step: 10, keep: 360 },
  { name: "1 day", list: "day", span: 86400, step: 300, keep: 288 },
];
const LAG_MAX = 10, TABLE_FROM = 9, TODO_MAX = 6;
const series = new Map(), cards = new Map(), syncs = new Map(), rows = new Map(), open = new Set();
let token = null, shown = SPANS[0], last = null, now = Date.now() / 1000;
try { token = sessionStorage.getItem("token"); } catch { /* No storage: the token lasts as long as the page. */ }

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function drawn(tag, attributes = {}) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
// Only what changed is touched: a reader of the page hears of no change that is none.
function say(node, text) { if (node.textContent !== text) node.textContent = text; }
function look(node, name) { if (node.className !== name) node.className = name; }
function show(node, on) { if (node.hidden === on) node.hidden = !on; }
// A text in which `…` marks what is typed.
function prose(node, text) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  node.replaceChildren(...text.split("`").map((part, i) => i % 2 ? make("code", {}, part) : part));
}
// Gives `parent` one child for each item, keeps those that are there, and puts them in order.
function keyed(parent, map, items, create, update) {
  const kept = new Set();
  items.forEach(([key, value], i) => {
    if (!map.has(key)) map.set(key, create(value));
    const part = map.get(key);
    kept.add(key);
    update(part, value);
    if (parent.children[i] !== part.node) parent.insertBefore(part.node, parent.children[i] || null);
  });
  for (const [key, part] of map) if (!kept.has(key)) { part.node.remove(); map.delete(key); }
}

const units = ["B", "kB", "MB", "GB", "TB", "PB"];
function bytes(n) {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}
function span(s) {
  if (s < 10) return `${s.toFixed(s < 1 ? 2 : 1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}
const rate = (n) => `${bytes(n)}/s`;
const count = (n) => n.toLocaleString("en");
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const sentence = (text) => text[0].toUpperCase() + text.slice(1);
const typed = (word) => /^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;

// What a failing path needs, by its errno.
const cures = {
  EACCES: "check who may read and write it", EPERM: "check its owner, its flags (lsattr) and what the login may do",
  ENOSPC: "make room on the target", EDQUOT: "raise the quota of its owner on the target",
  EROFS: "the target's filesystem is read-only: remount it", EFBIG: "the file is larger than the target's filesystem allows",
  ENAMETOOLONG: "its name is too long for the target", EIO: "a disk is failing: look into the kernel's log",
};

// The one state of a target, worst first, with what to do about it.
function stateOf(sync, target) {
  const names = `${typed(sync.name)} ${typed(target.name)}`;
  const failing = target.problems.length + (target.more_problems || 0);
  if (target.state === "down") {
    return { rank: 0, kind: "bad", word: "down", what: target.error || "there is no connection",
      hint: target.hint ? `${sentence(target.hint)}. speil keeps trying; \`speil retry ${names}\` tries at once`
        : `speil keeps trying. \`speil doctor ${typed(target.target)}\` looks for the cause` };
  }
  if (target.held) {
    return { rank: 1, kind: "bad", word: `${plural(target.held, "delete", "deletes")} held`, what: target.held_reason || "they wait for a decision",
      hint: `If they are right, \`speil approve ${names}\` carries them out. If not, restore the files on the source: what is back is held no more` };
  }
  const rotten = target.scrub ? target.scrub.mismatches.filter((it) => !it.repaired).length : 0;
  if (rotten) {
    return { rank: 2, kind: "bad", word: plural(rotten, "rotten file", "rotten files"), what: `${target.scrub.mismatches[0].path} has other bytes than on the other side, at the same size and time`,
      hint: "`speil status` lists these files and the side that is suspected" };
  }
  if (failing) {
    const first = target.problems[0];
    const what = first ? `${first.operation} ${first.path}: ${first.error}${first.on_target ? "" : ", on the source"}` : "";
    return { rank: 3, kind: "warn", word: plural(failing, "path fails", "paths fail"), what,
      hint: `${first && cures[first.errno] ? `${sentence(cures[first.errno])}. ` : ""}All other paths go on; speil tries again by itself` };
  }
  if (target.state === "paused") {
    return { rank: 5, kind: "warn", word: "paused", what: `${plural(target.queued, "change waits", "changes wait")}`, hint: `\`speil resume ${typed(sync.name)}\` sends again` };
  }
  if (target.state === "live" && target.lag_ms > LAG_MAX * 1000) {
    return { rank: 4, kind: "warn", word: `behind ${span(target.lag_ms / 1000)}`, what: `${plural(target.queued + target.in_flight, "change waits", "changes wait")}, sending ${rate(target.rate)}`,
      hint: `If this lasts, the link or the target's disk is too slow: \`speil doctor ${typed(target.target)}\` measures both` };
  }
  if (target.state === "standby") {
    return { rank: 8, kind: "good", word: "standby", what: "the source is a standby itself and sends nothing", hint: "" };
  }
  if (target.state === "live") return { rank: 9, kind: "good", word: "live", what: "", hint: "" };
  if (target.state === "first_pass") {
    return { rank: 6, kind: "warn", word: target.known ? "comparing" : "first copy", what: "", hint: "" };
  }
  return { rank: 7, kind: "warn", word: target.state.replace("_", " "), what: "", hint: "" };
}

function graph(kind, title, text, limit) {
  const svg = drawn("svg", { viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img" });
  const half = drawn("line", { class: "half", x1: 0, x2: 600, y1: 51, y2: 51 });
  const area = drawn("path", { class: "area" }), line = drawn("path");
  const bound = drawn("line", { class: "limit", x1: 0, x2: 600 }), cursor = drawn("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
  svg.append(half, area, line, bound, cursor);
  const value = make("span"), began = make("span"), marks = [make("span"), make("span"), make("span", {}, "0")];
  const node = make("div", { class: `graph ${kind}` },
    make("div", { class: "head" }, make("h4", {}, title), value),
    make("div", { class: "plot" }, make("div", { class: "axis", "aria-hidden": "true" }, ...marks), svg),
    make("div", { class: "head", "aria-hidden": "true" }, began, make("span", {}, "now")));
  let points = [], wide = 60, pointed = null, summary = "";
  const x = (t) => 600 - (now - t) * 600 / wide;
  function point() {
    const at = pointed === null || !points.length ? null
      : points.reduce((a, b) => Math.abs(x(b[0]) - pointed) < Math.abs(x(a[0]) - pointed) ? b : a);
    cursor.setAttribute("visibility", at ? "visible" : "hidden");
    if (at) { cursor.setAttribute("x1", x(at[0])); cursor.setAttribute("x2", x(at[0])); }
    say(value, at ? `${clock(at[0])}: ${text(at[1])}` : summary);
  }
  svg.addEventListener("pointermove", (event) => { const box = svg.getBoundingClientRect(); pointed = (event.clientX - box.left) * 600 / box.width; point(); });
  svg.addEventListener("pointerleave", () => { pointed = null; point(); });
  return { node, draw(list, floor) {
    points = list.filter(([t]) => t > now - shown.span - shown.step);
    const most = points.reduce((a, [, v]) => Math.max(a, v), 0), top = Math.max(most, floor);
    // A minute at least, so that a mirror that has just begun shows something.
    wide = Math.min(shown.span, Math.max(60, points.length ? now - points[0][0] : 0));
    const y = (v) => (98 - (v / top) * 94).toFixed(1);
    // Where there is no sample for a while, there is no line.
    const parts = [];
    points.forEach((point, i) => {
      if (!i || point[0] - points[i - 1][0] > 3 * shown.step + 2) parts.push([]);
      parts[parts.length - 1].push(`${x(point[0]).toFixed(1)} ${y(point[1])}`);
    });
    line.setAttribute("d", parts.map((part) => `M${part.join("L")}`).join(""));
    area.setAttribute("d", parts.map((part) => `M${part.join("L")}L${part[part.length - 1].split(" ")[0]} 98L${part[0].split(" ")[0]} 98Z`).join(""));
    bound.setAttribute("visibility", limit && top >= limit ? "visible" : "hidden");
    if (limit) { bound.setAttribute("y1", y(limit)); bound.setAttribute("y2", y(limit)); }
    say(marks[0], text(top)); say(marks[1], text(top / 2));
    const latest = points.length ? points[points.length - 1][1] : 0;
    summary = `now ${text(latest)}, most ${text(most)}`;
    say(began, `${span(wide)} ago`);
    point();
    svg.setAttribute("aria-label", `${title} over the last ${span(wide)}: ${summary}`);
  } };
}

function field(list, title) {
  const value = make("dd", {}, "–");
  list.append(make("div", {}, make("dt", {}, title), value));
  return value;
}
function button(parent, text, label, pressed, name = "") {
  const node = make("button", { type: "button", "aria-label": label }, text);
  if (name) node.className = name;
  node.addEventListener("click", pressed);
  parent.append(node);
  return node;
}

function makeCard([sync, target]) {
  const badge = make("span", { class: "badge" }), where = make("div", { class: "path soft" });
  const error = make("p", { class: "error small" }), hint = make("p", { class: "hint small" });
  const paths = make("ul", { class: "paths path" });
  const copy = make("div"), bar = make("progress", { max: 1, "aria-label": `Progress of ${target.name}` }), copied = make("div", { class: "small" });
  copy.append(bar, copied);
  const big = make("dl", { class: "big" }), rest = make("dl", { class: "small" }), pass = make("p", { class: "small soft" });
  const lag = graph("lag", "Lag", span, LAG_MAX), flow = graph("flow", "Throughput", rate);
  const decide = make("div", { class: "actions" });
  const part = { badge, where, error, hint, paths, copy, bar, copied, pass, lag, flow, decide, held: 0 };
  const request = (command) => ({ command, sync: sync.name, target: target.name });
  button(decide, "Carry out…", `Carry out… (the held deletes on ${target.name})`, () => ask("Carry out the held deletes?",
    `${plural(part.held, "entry is", "entries are")} deleted on ${target.name}. What speil did not write there is kept for 30 days.`,
    `Carry out ${plural(part.held, "delete", "deletes")}`, request("approve")), "danger");
  button(decide, "Dismiss until the next pass…", `Dismiss until the next pass… (the held deletes on ${target.name})`, () => ask("Dismiss the held deletes?",
    `The files stay on ${target.name} until the next pass finds and judges them again. Restore them on the source before that.`,
    "Dismiss them", request("discard")));
  part.node = make("article", { "aria-label": `${sync.name}, target ${target.name}` },
    make("div", { class: "top" }, make("h3", {}, target.name), badge), where, error, paths, hint, decide, copy, big, lag.node, flow.node, rest, pass);
  part.values = { lag: field(big, "lag"), queued: field(big, "waiting"), rate: field(big, "rate"),
    sent: field(rest, "sent"), files: field(rest, "files"), batch: field(rest, "last confirmed") };
  return part;
}

function copyText(copy, target) {
  const entries = copy.complete ? `${count(copy.done_entries)} of ${plural(copy.total_entries, "entry", "entries")}` : `${plural(copy.done_entries, "entry", "entries")}, still counting`;
  const share = copy.total_bytes ? copy.done_bytes / copy.total_bytes : 0;
  // An estimate made from too little is none.
  const early = !copy.complete || share < .01 || now - target.since < 5 || !target.rate;
  const left = early ? "" : `, ${span((copy.total_bytes - copy.done_bytes) / target.rate)} left`;
  return `${bytes(copy.done_bytes)}${copy.complete ? ` of ${bytes(copy.total_bytes)}` : ""} · ${entries} · ${rate(target.rate)}${left}${copy.current ? ` · now ${copy.current}` : ""}`;
}

function updateCard(card, [sync, target, state]) {
  const since = target.since ? ` for ${span(Math.max(0, now - target.since))}` : "";
  say(card.badge, ["live", "down", "paused", "comparing", "first copy"].includes(state.word) ? state.word + since : state.word);
  look(card.badge, `badge ${state.kind}`);
  look(card.node, `card${state.kind === "good" ? "" : ` edge-${state.kind}`}`);
  say(card.where, target.target);
  say(card.error, state.what); show(card.error, !!state.what);
  prose(card.hint, state.hint ? `${state.hint}.` : ""); show(card.hint, !!state.hint);
  card.held = target.held;
  const first = state.rank === 1 ? (target.held_first || []) : [];
  const list = first.concat(first.length && target.held > first.length ? [`and ${count(target.held - first.length)} more`] : []);
  if (card.listed !== list.join("\n")) { card.listed = list.join("\n"); card.paths.replaceChildren(...list.map((path) => make("li", {}, path))); }
  show(card.paths, list.length > 0);
  show(card.decide, acts && !!token && target.held > 0);
  const copy = target.state === "first_pass" ? target.copy : null;
  show(card.copy, !!copy);
  if (copy) {
    if (copy.complete && copy.total_bytes) card.bar.value = copy.done_bytes / copy.total_bytes;
    else card.bar.removeAttribute("value");
    say(card.copied, copyText(copy, target));
  }
  say(card.values.lag, target.known ? span(target.lag_ms / 1000) : "not yet");
  say(card.values.queued, count(target.queued + target.in_flight));
  say(card.values.rate, rate(target.rate));
  say(card.values.sent, bytes(target.sent_bytes));
  say(card.values.files, count(target.files));
  say(card.values.batch, target.last_batch ? clock(target.last_batch) : "–");
  say(card.pass, passText(target));
  const points = (series.get(JSON.stringify([sync.name, target.name])) || {})[shown.list] || [];
  card.lag.draw(points.map((p) => [p.time, p.lag_ms / 1000]), 1);
  card.flow.draw(points.map((p) => [p.time, p.bytes]), 1000);
}

function passText(target) {
  const done = target.reconcile;
  return done ? `Compared ${plural(done.entries, "entry", "entries")} in ${span(done.elapsed_ms / 1000)}, ${span(Math.max(0, now - done.time))} ago; ${count(done.repaired + done.deleted)} differed.`
    : "Not compared yet.";
}

function makeSync([sync]) {
  const source = make("span", { class: "path soft" }), grid = make("div", { class: "cards" }), actions = make("div", { class: "actions" });
  const send = (command) => ({ command, sync: sync.name });
  button(actions, "Compare now", `Compare now: ${sync.name}`, () => act(send("reconcile"), `Compare ${sync.name}`));
  const pause = button(actions, "Pause", `Pause ${sync.name}`, () => act(send("pause"), `Pause ${sync.name}`));
  const resume = button(actions, "Resume", `Resume ${sync.name}`, () => act(send("resume"), `Resume ${sync.name}`));
  const note = make("p", { class: "error small" });
  const node = make("section", { "aria-label": `Sync ${sync.name}` }, make("h2", {}, sync.name, " ", source), note, grid, actions);
  return { node, source, note, grid, actions, pause, resume };
}
function updateSync(part, [sync, all, visible]) {
  say(part.source, sync.source);
  const notes = sync.running ? sync.watch_problems : [`Not running: ${sync.error || "the source was not opened yet"}`];
  say(part.note, notes.join(" ")); show(part.note, notes.length > 0);
  look(part.note, `error small ${sync.running ? "" : "alert"}`);
  const signed = acts && !!token && sync.running;
  show(part.actions, signed);
  const paused = all.some(([, target]) => target.state === "paused");
  show(part.pause, !paused); show(part.resume, paused);
  visible.forEach(([, target], i) => {
    const card = cards.get(JSON.stringify([sync.name, target.name]));
    if (part.grid.children[i] !== card.node) part.grid.insertBefore(card.node, part.grid.children[i] || null);
  });
  while (part.grid.children.length > visible.length) part.grid.lastChild.remove();
  show(part.node, visible.length > 0 || notes.length > 0 || signed);
}

function makeRow([sync, target]) {
  const node = make("tr"), badge = make("span", { class: "badge" }), key = JSON.stringify([sync.name, target.name]);
  const name = make("button", { type: "button", class: "plain", "aria-expanded": "false" }, target.name);
  name.addEventListener("click", () => { if (!open.delete(key)) open.add(key); update(last); });
  const cells = [badge, name, sync.name, "", "", "", ""].map((content, i) => make(i === 1 ? "th" : "td", i === 1 ? { scope: "row" } : i > 2 && i < 6 ? { class: "number" } : {}, content));
  node.append(...cells);
  return { node, badge, name, cells, key };
}
function updateRow(row, [, target, state]) {
  say(row.badge, state.word); look(row.badge, `badge ${state.kind}`);
  row.name.setAttribute("aria-expanded", String(open.has(row.key) || state.kind !== "good"));
  say(row.cells[3], target.known ? span(target.lag_ms / 1000) : "not yet");
  say(row.cells[4], count(target.queued + target.in_flight));
  say(row.cells[5], rate(target.rate));
  say(row.cells[6], target.reconcile ? `${span(Math.max(0, now - target.reconcile.time))} ago` : "none yet");
}

// What is wrong, worst first: [rank, kind, whom, what, hint].
function troubles(report, all) {
  const found = [];
  if (report.refused_reload) found.push([0, "bad", "The new configuration is refused; the old one stays in force", report.refused_reload, "Correct the file (`speil check FILE`), then `systemctl reload speil`"]);
  for (const sync of report.syncs) {
    if (!sync.running) found.push([0, "bad", `${sync.name} is not running`, sync.error || "the source was not opened yet", sync.error ? "Correct what is named; for the configuration, `speil check FILE` and `systemctl reload speil`" : ""]);
    for (const problem of sync.watch_problems) found.push([8, "warn", `${sync.name} does not hear of every change`, problem, ""]);
  }
  for (const [sync, target, state] of all) {
    if (state.rank < 6) found.push([state.rank, state.kind, `${target.name}${report.syncs.length > 1 ? ` (${sync.name})` : ""}: ${state.word}`, state.what, state.hint]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}

const marks = { good: "", warn: "<path d='M8 3v6M8 11v2' stroke='%23fff' stroke-width='2'/>", bad: "<path d='M4 4l8 8M12 4l-8 8' stroke='%23fff' stroke-width='2'/>" };
const colours = { good: "%232f7d5b", warn: "%23b57600", bad: "%23b3261e" };
function face(kind, title) {
  if (document.title !== title) document.title = title;
  const shape = kind === "good" ? `<path d='M2 3h5v10H2zM9 3h5v10H9z' fill='${colours.good}'/>` : `<rect width='16' height='16' rx='4' fill='${colours[kind]}'/>${marks[kind]}`;
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>${shape}</svg>`.replace(/</g, "%3C").replace(/>/g, "%3E");
  if (by("icon").getAttribute("href") !== icon) by("icon").setAttribute("href", icon);
}

const told = new Map();
function verdict(report, all) {
  const found = troubles(report, all), fine = all.filter(([, , state]) => state.kind === "good").length;
  const worst = found.some(([, kind]) => kind === "bad") ? "bad" : found.length || fine < all.length ? "warn" : all.length ? "good" : "warn";
  const busy = all.filter(([, , state]) => state.rank >= 6 && state.rank < 9);
  const share = `${count(fine)} of ${plural(all.length, "target", "targets")} ${fine === 1 ? "is" : "are"} up to date`;
  say(by("headline"), !all.length && !found.length ? "No sync is running."
    : all.length === 1 && !fine ? `The target is not up to date${found.length ? "" : `: ${busy[0][2].word}`}.`
    : fine === all.length && !found.length ? (all.length === 1 ? "The target is up to date." : `All ${count(all.length)} targets are up to date.`)
      : `${share}${found.length ? "" : `; ${busy.map(([, target, state]) => `${target.name}: ${state.word}`).slice(0, 3).join(", ")}`}.`);
  look(by("verdict"), `verdict ${worst}`);
  const listed = found.slice(0, TODO_MAX).map((it) => [`${it[2]}`, it]);
  if (found.length > TODO_MAX) listed.push(["more", [9, "warn", `and ${count(found.length - TODO_MAX)} more`, "", ""]]);
  keyed(by("todo"), told, listed, () => {
    const who = make("span", { class: "what" }), what = make("span"), hint = make("span", { class: "hint" });
    return { node: make("li", {}, who, what, hint), who, what, hint };
  }, (part, [, , who, what, hint]) => {
    say(part.who, who); say(part.what, what ? ` – ${what}` : "");
    prose(part.hint, hint ? `${hint}.` : ""); show(part.hint, !!hint);
  });
  show(by("todo"), listed.length > 0);
  face(worst, found.length ? `${found[0][2]}${found.length > 1 ? ` and ${found.length - 1} more` : ""} – speil` : worst === "good" ? "speil: up to date" : "speil");
}

function update(report) {
  if (!report) return;
  last = report;
  now = report.time;
  say(by("about"), `version ${report.version}, running for ${span(Math.max(0, report.time - report.started))}`);
  const all = report.syncs.flatMap((sync) => sync.targets.map((target) => [sync, target, stateOf(sync, target)]));
  const order = (a, b) => a[2].rank - b[2].rank;
  const keyOf = ([sync, target]) => JSON.stringify([sync.name, target.name]);
  all.sort(order);
  verdict(report, all);
  const many = all.length >= TABLE_FROM;
  show(by("table-section"), many);
  keyed(by("rows"), rows, many ? all.map((it) => [keyOf(it), it]) : [], makeRow, updateRow);
  const visible = all.filter((it) => !many || it[2].kind !== "good" || open.has(keyOf(it)));
  for (const it of visible) {
    const key = keyOf(it);
    if (!cards.has(key)) cards.set(key, makeCard(it));
    updateCard(cards.get(key), it);
  }
  const known = new Set(all.map(keyOf));
  for (const [key, card] of cards) if (!known.has(key)) { card.node.remove(); cards.delete(key); }
  const of = (list, sync) => list.filter((it) => it[0] === sync);
  const worst = (sync) => sync.running ? Math.min(9, ...of(all, sync).map((it) => it[2].rank)) : -1;
  const ordered = report.syncs.slice().sort((a, b) => worst(a) - worst(b));
  keyed(by("syncs"), syncs, ordered.map((sync) => [sync.name, [sync, of(all, sync), of(visible, sync)]]), makeSync, updateSync);
  problems(all);
  show(by("spans"), visible.length > 0);
}

const groups = new Map();
function problems(all) {
  const found = new Map();
  for (const [sync, target] of all) {
    for (const problem of target.problems) {
      const key = JSON.stringify([sync.name, target.name, problem.operation, problem.error, problem.on_target]);
      if (!found.has(key)) found.set(key, { sync, target, problem, paths: [] });
      found.get(key).paths.push(problem);
    }
  }
  const items = [...found].sort((a, b) => b[1].paths.length - a[1].paths.length);
  show(by("problem-section"), items.length > 0);
  keyed(by("problems"), groups, items, () => {
    const what = make("span"), path = make("span", { class: "path" }), soft = make("span", { class: "soft small" });
    const list = make("ul", { class: "paths path" }), more = make("summary", {}), details = make("details", {}, more, list);
    return { node: make("li", {}, path, " ", what, " ", soft, details), what, path, soft, list, more, details };
  }, (part, { sync, target, problem, paths }) => {
    say(part.path, problem.path);
    const next = Math.min(...paths.map((it) => it.retry_ms)), tries = Math.max(...paths.map((it) => it.attempts));
    const also = paths.length > 1 ? ` and ${plural(paths.length - 1, "other path", "other paths")}` : "";
    say(part.what, `${also.trim()}${also ? ", " : ""}${problem.operation}: ${problem.error}${problem.on_target ? "" : " (on the source)"}`);
    say(part.soft, `${sync.name} → ${target.name}, tried ${plural(tries, "time", "times")}, next in ${span(next / 1000)}`);
    say(part.more, `The ${count(Math.min(paths.length, 100))} paths${paths.length > 100 ? " that come first" : ""}`);
    show(part.details, paths.length > 1);
    const text = paths.slice(0, 100).map((it) => it.path).join("\n");
    if (part.text !== text) { part.text = text; part.list.replaceChildren(...paths.slice(0, 100).map((it) => make("li", {}, it.path))); }
  });
}

const words = {
  connected: (h) => `connected, agent ${h.about}`, disconnected: (h) => h.about, live: () => "live",
  pass_began: (h) => `comparing ${h.about}`, pass_done: (h) => `compared ${h.about}: ${plural(h.count, "entry", "entries")} differed`,
  problem: (h) => h.about, held: (h) => `${plural(h.count, "delete", "deletes")} held: ${h.about}`,
  set_aside: (h) => `${h.about} was written on the target by someone else; kept aside`,
  rescan: (h) => `to be compared: ${h.about}`, warning: (h) => h.about, message: (h) => h.about,
  kept: (h) => `${plural(h.count, "entry", "entries")} that someone else wrote on the target are kept there`,
  paused: (h) => h.count ? "paused" : "resumed", sent: (h) => `${plural(h.count, "change", "changes")} confirmed`,
};
let happened = [], newest = 0;
function news(items) {
  const fresh = items.filter((item) => item.number > newest);
  if (!fresh.length) return;
  newest = fresh[fresh.length - 1].number;
  happened = happened.concat(fresh).slice(-200);
  activity();
}
// The same text of the same target is one line, with how often it came.
function activity() {
  const wanted = by("find").value.trim().toLowerCase(), bad = by("only-bad").checked, lines = new Map();
  for (const item of happened) {
    const who = [item.sync, item.target].filter(Boolean).join(" → ");
    const what = (words[item.what] || ((h) => `${h.what} ${h.about}`))(item), text = who ? `${who}: ${what}` : what;
    if ((bad && !item.bad) || (wanted && !text.toLowerCase().includes(wanted))) continue;
    const line = lines.get(text) || { text, times: 0 };
    lines.delete(text);
    lines.set(text, Object.assign(line, { time: item.time, bad: item.bad, times: line.times + 1 }));
  }
  const all = [...lines.values()].reverse();
  by("activity").replaceChildren(...(all.length ? all.map((line) => make("li", {},
    make("time", { datetime: new Date(line.time * 1000).toISOString() }, clock(line.time)),
    make("span", {}, make("span", line.bad ? { class: "alert" } : {}, line.text),
      line.times > 1 ? make("span", { class: "soft" }, ` – ${count(line.times)} times`) : "")))
    : [make("li", { class: "soft alone" }, happened.length ? "Nothing fits the filter." : "Nothing yet.")]));
}
by("find").addEventListener("input", activity);
by("only-bad").addEventListener("change", activity);

async function act(request, text) {
  const done = by("done");
  show(done, true);
  try {
    const answer = await fetch("act", { method: "POST", body: JSON.stringify(request),
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` } });
    if (answer.status === 401) sign(null);
    const value = answer.headers.get("content-type").startsWith("application/json") ? await answer.json() : { error: await answer.text() };
    say(done, answer.ok ? `${text}: done.` : `${text}: ${value.error}`);
    look(done, answer.ok ? "small soft" : "small alert");
  } catch (error) {
    say(done, `${text}: ${error.message}`);
    look(done, "small alert");
  }
}
let asked = null;
function ask(title, text, yes, request) {
  asked = [request, yes];
  say(by("ask-title"), title); say(by("ask-text"), text); say(by("ask-yes"), yes);
  by("ask-dialog").showModal();
}
by("ask-yes").addEventListener("click", () => { by("ask-dialog").close(); act(...asked); });
by("ask-no").addEventListener("click", () => by("ask-dialog").close());

function sign(with_token) {
  token = with_token;
  try { if (token) sessionStorage.setItem("token", token); else sessionStorage.removeItem("token"); } catch { /* As above. */ }
  say(by("sign-in"), token ? "Sign out" : "Sign in");
  update(last);
}
show(by("sign-in"), acts);
by("sign-in").addEventListener("click", () => token ? sign(null) : by("login-dialog").showModal());
by("login-cancel").addEventListener("click", () => by("login-dialog").close());
by("login").addEventListener("submit", (event) => {
  event.preventDefault();
  by("login-dialog").close();
  sign(by("token").value);
  by("token").value = "";
});

for (const it of SPANS) {
  const node = button(by("spans-buttons"), it.name, `${it.name} of graphs`, () => {
    shown = it;
    for (const other of by("spans-buttons").children) other.setAttribute("aria-pressed", String(other === node));
    update(last);
  }, "plain");
  node.setAttribute("aria-pressed", String(it === shown));
}

// Adds a sample to a list whose points stand for `step` seconds each: the highest lag, the mean of the bytes.
function fold(list, sample, { step, keep }) {
  const time = sample.time - sample.time % step, end = list[list.length - 1];
  if (end && end.time === time) {
    end.seen = (end.seen || 1) + 1;
    end.lag_ms = Math.max(end.lag_ms, sample.lag_ms);
    end.bytes += (sample.bytes - end.bytes) / end.seen;
  } else if (!end || end.time < time) {
    list.push({ ...sample, time });
    if (list.length > keep) list.shift();
  }
}
async function start() {
  sign(token);
  try {
    for (const one of await (await fetch("history.json")).json()) series.set(JSON.stringify([one.sync, one.target]), one);
  } catch { /* The events bring what follows. */ }
  const events = new EventSource("events");
  events.addEventListener("status", (event) => {
    const { report, last: samples, news: items } = JSON.parse(event.data);
    for (const { sync, target, sample } of samples) {
      const key = JSON.stringify([sync, target]), lists = series.get(key) || {};
      series.set(key, lists);
      for (const it of SPANS) if (sample) fold(lists[it.list] ||= [], sample, it);
    }
    document.body.classList.remove("stale");
    update(report);
    news(items);
  });
  events.addEventListener("error", () => {
    document.body.classList.add("stale");
    say(by("headline"), "No connection to the daemon: what is shown is old.");
    look(by("verdict"), "verdict bad");
    face("bad", "No connection – speil");
  });
}
start();
