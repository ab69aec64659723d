// The radar in a browser: draws what the server says, computes no market number of its own.
// Columns arrive once closed and never change; the open one is replaced each tick.

const $ = (id) => document.getElementById(id);
const state = {
  meta: null, symbol: null, socket: null,
  columns: [], open: null, liquidations: [], zones: [], tick: null, received: 0,
  boost: true, side: "both", gamma: 0.7, theme: null, frozen: null,
  offset: 0, visible: 120, span: 0.08, centre: null, range: null, loading: false, atStart: false, dirty: true,
};
const SIDES = ["both", "long", "short"];
const LEFT = 0, RIGHT = 120, BOTTOM = 18;

function floats(text) {
  if (text === null) return null; // an empty text is a column without heat
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}
function unpack(wire) {
  return { ...wire, raw: floats(wire.raw), boosted: floats(wire.boosted) };
}
const heatOf = (column) => (state.boost && column.boosted) ? column.boosted : column.raw;
const priceOf = (bin) => state.grid.reference * Math.exp(bin * state.grid.step);
const binOf = (price) => Math.floor(Math.log(price / state.grid.reference) / state.grid.step);

// -- connection

async function start() {
  state.meta = await (await fetch("api/meta")).json();
  const pick = $("symbol");
  pick.replaceChildren(...state.meta.symbols.map((s) => new Option(s, s)));
  pick.onchange = () => { choose(pick.value); $("heat").focus(); };
  const light = matchMedia("(prefers-color-scheme: light)").matches;
  setTheme(new URLSearchParams(location.search).get("theme") || (light ? "light" : state.meta.theme));
  choose(new URLSearchParams(location.search).get("symbol") || state.meta.symbols[0]);
}

function choose(symbol) {
  if (!symbol) { $("empty").hidden = false; $("empty").textContent = "waiting for the first symbol …"; setTimeout(start, 1000); return; }
  Object.assign(state, { symbol, columns: [], open: null, liquidations: [], zones: [], tick: null, offset: 0, centre: null, range: null, atStart: false });
  $("symbol").value = symbol;
  if (state.socket) { state.socket.onclose = null; state.socket.close(); }
  connect();
}

function connect() {
  const url = new URL(`ws?symbol=${encodeURIComponent(state.symbol)}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = state.socket = new WebSocket(url);
  socket.onmessage = (message) => receive(JSON.parse(message.data));
  socket.onclose = () => setTimeout(() => { if (state.socket === socket) connect(); }, 1000);
}

function receive(message) {
  state.received = performance.now();
  if (message.kind === "hello") {
    state.grid = message.grid;
    state.columns = message.columns.map(unpack);
    state.liquidations = message.liquidations;
    state.atStart = !message.more;
  } else if (message.kind === "tick") {
    for (const column of message.closed) if (!state.columns.length || column.start > state.columns.at(-1).start) state.columns.push(unpack(column));
    state.open = message.open && unpack(message.open);
    state.liquidations.push(...message.liquidations);
    state.tick = message;
    if (!state.frozen) panels(message);
  }
  state.dirty = true;
}

async function older() {
  if (state.loading || state.atStart || !state.columns.length) return;
  state.loading = true;
  try {
    const before = state.columns[0].start;
    const got = await (await fetch(`api/history?symbol=${encodeURIComponent(state.symbol)}&before=${before}&count=240`)).json();
    state.columns.unshift(...got.columns.map(unpack));
    state.liquidations.unshift(...got.liquidations);
    state.atStart = !got.more;
    state.dirty = true;
  } finally { state.loading = false; }
}

// -- text

function panels(tick) {
  const h = tick.header;
  $("last").textContent = h.last; $("change").textContent = h.change; $("index").textContent = h.index;
  $("mark").textContent = h.mark; $("fund").textContent = `${h.funding} in ${h.countdown}`; $("oi").textContent = h.interest;
  document.title = `${h.last} ${state.symbol} · wld`;
  $("telemetry").replaceChildren(...tick.groups.flatMap((group) => {
    const title = document.createElement("h2"); title.textContent = group.title;
    return [title, ...group.lines.map(lineOf)];
  }));
  $("tape").replaceChildren(...tick.tape.slice(-4).reverse().map(lineOf));
}

function lineOf(spans) {
  const line = document.createElement("div"); line.className = "line";
  line.append(...spans.map(([text, role]) => Object.assign(document.createElement("span"), { className: role, textContent: text })));
  return line;
}

function liveness() {
  const silent = (performance.now() - state.received) / 1000;
  const [said, alarm] = state.tick ? state.tick.state : ["connecting", false];
  const cut = silent > 3; // nothing from here on is known: the program or the line to it is gone
  document.querySelector("header").classList.toggle("stale", cut || alarm);
  $("live").textContent = cut ? `STALE ${silent.toFixed(0)}s` : said;
  const badges = [];
  if (state.frozen) badges.push(`FROZEN ${Math.round((Date.now() - state.frozen) / 1000)}s`);
  if (state.offset) badges.push("SCROLLED");
  if (state.side !== "both") badges.push(`${state.side} only`);
  badges.push(state.boost ? "boosted" : "raw");
  $("badges").replaceChildren(...badges.map((text) => Object.assign(document.createElement("span"), { className: "badge", textContent: text })));
}

// -- drawing

function setTheme(name) {
  const names = Object.keys(state.meta.themes);
  state.theme = names.includes(name) ? name : names[0]; state.range = null;
  const theme = state.meta.themes[state.theme];
  document.documentElement.classList.toggle("light", theme.light);
  for (const name of ["long", "short"]) document.documentElement.style.setProperty(`--${name}`, `rgb(${theme[name]})`);
  const ramp = $("ramp").getContext("2d");
  theme.ramp.forEach((c, i) => { ramp.fillStyle = `rgb(${c})`; ramp.fillRect(i * 256 / theme.ramp.length, 0, 256 / theme.ramp.length + 1, 10); });
  state.dirty = true;
}

function scaleOf(columns, bins) {
  const values = [];
  for (const column of columns) {
    const heat = heatOf(column);
    for (let i = Math.max(0, bins[0] - column.low); i < Math.min(heat.length, bins[1] - column.low); i++) if (heat[i] > 0) values.push(heat[i]);
  }
  if (!values.length) return state.range || [1, 10];
  values.sort((a, b) => a - b);
  const low = values[Math.floor(values.length * 0.5)], high = Math.max(values[Math.floor(values.length * 0.995)], low * 1.5);
  const kept = state.range;
  // The ramp moves only when the data left it by a fifth, so that the picture does not pump.
  if (kept && Math.abs(Math.log(high / kept[1])) < 0.2 && Math.abs(Math.log(low / kept[0])) < 0.5) return kept;
  return (state.range = [low, high]);
}

function usdt(value) {
  const a = Math.abs(value);
  return a >= 1e9 ? (value / 1e9).toFixed(2) + "B" : a >= 1e6 ? (value / 1e6).toFixed(2) + "M" : a >= 1e3 ? (value / 1e3).toFixed(1) + "k" : value.toFixed(0);
}
const clock = (ns) => new Date(ns / 1e6).toISOString().slice(11, 19);

function view() {
  const all = state.open ? [...state.columns, state.open] : state.columns;
  const end = Math.max(1, all.length - state.offset);
  return all.slice(Math.max(0, end - state.visible), end);
}

function draw() {
  requestAnimationFrame(draw);
  if (!state.meta) return;
  liveness();
  if (!state.dirty || (state.frozen && !state.redraw)) return;
  state.dirty = state.redraw = false;
  const canvas = $("heat"), over = $("over"), ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  for (const c of [canvas, over]) if (c.width !== width * ratio || c.height !== height * ratio) { c.width = width * ratio; c.height = height * ratio; }
  const theme = state.meta.themes[state.theme];
  const context = canvas.getContext("2d"), top = over.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0); top.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = `rgb(${theme.background})`; context.fillRect(0, 0, width, height);
  top.clearRect(0, 0, width, height);
  const shown = view();
  $("empty").hidden = shown.length > 0;
  if (!shown.length) { $("empty").textContent = "no column yet: the model has seen no mark price"; return; }
  const mark = shown.at(-1).mark[3];
  if (state.centre === null || (!state.pinned && Math.abs(Math.log(mark / state.centre)) > state.span * 0.6)) state.centre = mark;
  const high = Math.log(state.centre) + state.span, low = Math.log(state.centre) - state.span;
  const plot = { left: LEFT, width: width - RIGHT - LEFT, height: height - BOTTOM };
  const y = (price) => (high - Math.log(price)) / (high - low) * plot.height;
  const bins = [binOf(Math.exp(low)), binOf(Math.exp(high)) + 1], rows = bins[1] - bins[0];
  const [h0, h1] = scaleOf(shown, bins), ramp = theme.ramp, full = Math.log1p(h1 / h0);
  const image = new ImageData(shown.length, rows);
  shown.forEach((column, x) => {
    const heat = heatOf(column), price = column.mark[3];
    for (let row = 0; row < rows; row++) {
      const bin = bins[1] - 1 - row, value = heat[bin - column.low] || 0, below = priceOf(bin + 0.5) < price;
      let c = theme.background;
      if (value > 0 && !(state.side === "long" && !below) && !(state.side === "short" && below)) {
        const t = Math.min(1, Math.pow(Math.log1p(value / h0) / full, state.gamma));
        c = ramp[Math.min(ramp.length - 1, Math.floor(t * (ramp.length - 1)))];
      }
      const at = 4 * (row * shown.length + x), dim = column.seed ? 0.5 : 1;
      for (let k = 0; k < 3; k++) image.data[at + k] = theme.background[k] + (c[k] - theme.background[k]) * dim;
      image.data[at + 3] = 255;
    }
  });
  const small = new OffscreenCanvas(shown.length, rows);
  small.getContext("2d").putImageData(image, 0, 0);
  const step = plot.width / Math.max(shown.length, Math.min(state.visible, 24)), first = plot.left + plot.width - step * shown.length;
  context.imageSmoothingEnabled = false;
  const edge = Math.log(state.grid.reference) + bins[1] * state.grid.step;
  const yTop = (high - edge) / (high - low) * plot.height, tall = rows * state.grid.step / (high - low) * plot.height;
  context.save(); context.beginPath(); context.rect(plot.left, 0, plot.width, plot.height); context.clip();
  context.drawImage(small, first, yTop, step * shown.length, tall);
  shown.forEach((column, x) => { if (column.gap) hatch(context, first + x * step, step, plot.height, theme); });
  // the path of the mark price: each column's span, joined at its closes
  context.strokeStyle = context.fillStyle = `rgb(${theme.mark})`; context.lineWidth = 1.5; context.beginPath();
  shown.forEach((column, x) => { const cx = first + (x + 0.5) * step; x ? context.lineTo(cx, y(column.mark[3])) : context.moveTo(cx, y(column.mark[3])); });
  context.stroke();
  shown.forEach((column, x) => context.fillRect(first + (x + 0.5) * step - 0.5, y(column.mark[1]), 1, Math.max(1, y(column.mark[2]) - y(column.mark[1]))));
  const t0 = shown[0].start, t1 = shown.at(-1).end;
  for (const event of state.liquidations) {
    if (event.time < t0 || event.time > t1) continue;
    let x = shown.findIndex((column) => event.time < column.end); if (x < 0) x = shown.length - 1;
    marker(context, first + (x + 0.5) * step, y(event.price), event, theme);
  }
  context.restore();
  axes(top, plot, shown, first, step, theme, low, high, y);
  profile(top, plot, shown.at(-1), bins, theme, h0, full, y, mark);
  $("low").textContent = `${usdt(h0)} ..`; $("high").textContent = `${usdt(h1)} USDT per ${(state.grid.step * 1e4).toFixed(0)} bp, estimate`;
  state.shape = { plot, first, step, shown, low, high };
}

function hatch(context, x, width, height, theme) {
  context.strokeStyle = `rgb(${theme.gap})`; context.lineWidth = 1; context.beginPath();
  for (let at = 0; at < height + width; at += 8) { context.moveTo(x, at); context.lineTo(x + width, at - width); }
  context.stroke();
}

function marker(context, x, y, event, theme) {
  const size = 3 + 2.2 * Math.log10(Math.max(1, event.notional / 1000));
  context.beginPath(); context.arc(x, y, size, 0, 7);
  context.fillStyle = `rgb(${event.side === "long" ? theme.long : theme.short})`;
  context.strokeStyle = `rgb(${theme.mark})`; context.lineWidth = event.hit ? 2 : 0.7;
  event.hit ? context.fill() : (context.globalAlpha = 0.45, context.fill(), context.globalAlpha = 1);
  context.stroke();
}

function axes(context, plot, shown, first, step, theme, low, high, y) {
  context.fillStyle = `rgb(${theme.text})`; context.font = "11px ui-monospace, monospace"; context.textBaseline = "middle";
  const mark = shown.at(-1).mark[3], digits = state.grid.digits;
  for (let i = 1; i < 12; i++) {
    const price = Math.exp(high - (high - low) * i / 12), at = y(price);
    context.globalAlpha = 0.75; context.fillText(price.toFixed(digits), plot.left + plot.width + 6, at);
    context.globalAlpha = 0.45; context.fillText(`${((price / mark - 1) * 100).toFixed(1)}%`, plot.left + plot.width + 70, at);
  }
  context.globalAlpha = 1;
  context.fillStyle = `rgb(${theme.background})`; context.fillRect(plot.left + plot.width + 2, y(mark) - 8, 66, 16);
  context.fillStyle = context.strokeStyle = `rgb(${theme.mark})`; context.fillText(mark.toFixed(digits), plot.left + plot.width + 6, y(mark));
  context.strokeRect(plot.left + plot.width + 2, y(mark) - 8, 66, 16);
  context.fillStyle = `rgb(${theme.text})`; context.globalAlpha = 0.75;
  const every = Math.max(1, Math.round(90 / step));
  for (let x = shown.length - 1; x >= 0; x -= every) { const text = clock(shown[x].start); context.fillText(text, Math.max(plot.left, first + x * step - 24), plot.height + 9); }
  context.globalAlpha = 1;
  for (const zone of (state.tick?.zones || [])) {
    const at = y(zone.price);
    if (at < 0 || at > plot.height) continue;
    const label = `${zone.name} ${zone.distance} ${zone.notional} ${zone.tiers}`, wide = context.measureText(label).width;
    context.globalAlpha = 0.8; context.fillStyle = `rgb(${theme.background})`; context.fillRect(plot.left + plot.width - wide - 10, at - 8, wide + 8, 16);
    context.globalAlpha = 1; context.fillStyle = `rgb(${zone.side === "long" ? theme.long : theme.short})`; context.fillText(label, plot.left + plot.width - wide - 6, at);
  }
}

function profile(context, plot, column, bins, theme, h0, full, y, mark) {
  const heat = heatOf(column);
  for (let bin = bins[0]; bin < bins[1]; bin++) {
    const value = heat[bin - column.low] || 0;
    if (value <= 0) continue;
    const a = y(priceOf(bin + 1)), b = y(priceOf(bin)), t = Math.min(1, Math.log1p(value / h0) / full);
    if (b < 0 || a > plot.height) continue;
    context.globalAlpha = 0.35; context.fillStyle = `rgb(${priceOf(bin) < mark ? theme.long : theme.short})`;
    const from = Math.floor(a);
    context.fillRect(plot.left + plot.width, from, t * (RIGHT - 4), Math.max(1, Math.floor(b) - from));
  }
  context.globalAlpha = 1;
}

// -- hands

$("heat").onmousemove = (event) => {
  const shape = state.shape, box = $("hover");
  if (!shape) return;
  const x = Math.floor((event.offsetX - shape.first) / shape.step), column = shape.shown[x];
  if (!column || event.offsetY > shape.plot.height) { box.hidden = true; return; }
  const price = Math.exp(shape.high - event.offsetY / shape.plot.height * (shape.high - shape.low)), bin = binOf(price);
  box.hidden = false;
  box.textContent = `${clock(column.start)}  ${price.toFixed(state.grid.digits)}\nraw     ${usdt(column.raw[bin - column.low] || 0)} USDT\nboosted ${usdt((column.boosted || column.raw)[bin - column.low] || 0)} USDT\nmark    ${column.mark[3].toFixed(state.grid.digits)}${column.gap ? "\na gap in the feed" : ""}`;
  box.style.left = `${Math.min(event.offsetX + 14, shape.plot.width - 160)}px`; box.style.top = `${Math.min(event.offsetY + 14, shape.plot.height - 70)}px`;
};
$("heat").onmouseleave = () => { $("hover").hidden = true; };
$("heat").onwheel = (event) => {
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) scroll(Math.sign(event.deltaX || event.deltaY) * -6);
  else zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15);
};
function touch() { state.dirty = state.redraw = true; }
function zoom(factor) { state.span = Math.min(0.5, Math.max(0.002, state.span * factor)); touch(); }
function scroll(columns) {
  state.offset = Math.max(0, Math.min(state.columns.length - 1, state.offset + columns));
  if (state.offset + state.visible > state.columns.length - 60) older();
  touch();
}
function pan(part) { state.pinned = true; state.centre *= Math.exp(state.span * part); touch(); }

const KEYS = {
  " ": () => { state.frozen = state.frozen ? null : Date.now(); touch(); },
  ArrowLeft: () => scroll(6), ArrowRight: () => scroll(-6), h: () => scroll(6), l: () => scroll(-6),
  ArrowUp: () => pan(0.2), ArrowDown: () => pan(-0.2), k: () => pan(0.2), j: () => pan(-0.2),
  "+": () => zoom(1 / 1.25), "=": () => zoom(1 / 1.25), "-": () => zoom(1.25),
  "[": () => { state.visible = Math.min(1000, Math.round(state.visible * 1.25)); older(); touch(); },
  "]": () => { state.visible = Math.max(20, Math.round(state.visible / 1.25)); touch(); },
  0: () => { state.centre = null; state.pinned = false; touch(); }, End: () => { state.offset = 0; touch(); },
  b: () => { state.boost = !state.boost; state.range = null; touch(); },
  s: () => { state.side = SIDES[(SIDES.indexOf(state.side) + 1) % 3]; touch(); },
  g: () => { state.gamma = Math.max(0.3, state.gamma / 1.15); touch(); }, G: () => { state.gamma = Math.min(2, state.gamma * 1.15); touch(); },
  t: () => { const names = Object.keys(state.meta.themes); setTheme(names[(names.indexOf(state.theme) + 1) % names.length]); touch(); },
  Tab: () => { const names = state.meta.symbols; choose(names[(names.indexOf(state.symbol) + 1) % names.length]); },
  "?": () => { const box = $("help"); if (box.open) box.close(); else { box.textContent = state.meta.help; box.showModal(); } },
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});
addEventListener("resize", touch);
globalThis.state_theme = () => state.theme; // for the tests
start();
requestAnimationFrame(draw);
