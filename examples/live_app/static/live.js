"use strict";

const form = document.querySelector("form");
const start = form.querySelector("[type=submit]");
const stop = form.elements.stop;
const status_ = document.querySelector(".status");
const rows = document.querySelector("tbody");
const head = document.querySelector("thead tr");
const NS = "http://www.w3.org/2000/svg";
let source = null;
let run = { names: [], tolerance: 0, rounds: [] };
let due = false;

form.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  begin();
});
stop.addEventListener("click", () => end("stopped", `Stopped after ${counted(run.rounds.length)}; nothing was released.`));
addEventListener("pagehide", () => source?.close());
new ResizeObserver(later).observe(document.querySelector("main"));

function begin() {
  source?.close();
  run = { names: [], tolerance: 0, rounds: [] };
  rows.replaceChildren();
  later();
  say("running", "Starting.");
  start.disabled = true;
  stop.disabled = false;
  source = new EventSource(`/run?${new URLSearchParams(new FormData(form))}`);
  source.addEventListener("start", (message) => {
    const told = JSON.parse(message.data);
    run.names = told.coefficients;
    run.tolerance = told.tolerance;
    head.replaceChildren(...["round", ...run.names, "change", "slowest"].map((name) => cell("th", name, "col")));
  });
  source.addEventListener("round", (message) => round(JSON.parse(message.data)));
  source.addEventListener("end", (message) => {
    const told = JSON.parse(message.data);
    const result = run.names.map((name, i) => `${name} ${shown(told.values[i])}`).join(", ");
    end("ended", `${told.text} Result: ${result}.`);
  });
  source.addEventListener("failed", (message) => end("failed", JSON.parse(message.data).text));
  // A lost connection ended the run at the server; connecting again, as EventSource would, begins another.
  source.onerror = () => end("failed", "The connection was lost or refused. Start begins a new run.");
}

function round(told) {
  run.rounds.push(told);
  const row = document.createElement("tr");
  const numbers = [...told.values, told.change].map((value) => cell("td", shown(value)));
  row.append(cell("th", told.number, "row"), ...numbers, cell("td", told.slowest));
  rows.append(row);
  const moved = told.change === null ? "" : `, changed by ${shown(told.change)}`;
  say("running", `Round ${told.number}${moved}.`);
  later();
}

function end(state, text) {
  source?.close();
  source = null;
  start.disabled = false;
  stop.disabled = true;
  say(state, text);
}

function say(state, text) {
  // Read out at the beginning, every tenth round and the end: not sixty times.
  status_.setAttribute("aria-live", state !== "running" || run.rounds.length % 10 === 1 ? "polite" : "off");
  status_.dataset.state = state;
  status_.textContent = text;
}

// Drawing: once a frame, however fast the rounds come

function later() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawValues(document.querySelector("svg.values"));
    drawChange(document.querySelector("svg.change"));
  });
}

function drawValues(svg) {
  const series = run.names.map((_, i) => run.rounds.map((round) => round.values[i]));
  const all = series.flat().filter((value) => value !== null);
  const text = all.length ? run.names.map((name, i) => `${name} ${shown(series[i].at(-1))}`).join(", ") : "Nothing yet.";
  const frame = framed(svg, all.length ? all : [0, 1], text, plain, 5);
  const names = [];
  series.forEach((values, i) => {
    const group = draw(svg, "g", { class: `s${i % 4}` });
    line(group, frame, values);
    if (values.length && values.at(-1) !== null) names.push({ group, text: run.names[i], y: frame.y(values.at(-1)) });
  });
  // Names stand beside the ends of their lines: pushed down where these are close, then up where there is no room.
  names.sort((a, b) => a.y - b.y);
  for (let i = 1; i < names.length; i++) names[i].y = Math.max(names[i].y, names[i - 1].y + 15);
  for (let i = names.length - 1, room = frame.bottom - 4; i >= 0; i--, room = names[i + 1].y - 15) names[i].y = Math.min(names[i].y, room);
  for (const name of names) draw(name.group, "text", { x: frame.x(run.rounds.length - 1) + 9, y: name.y + 4 }, name.text);
}

function drawChange(svg) {
  const values = run.rounds.map((round) => (round.change > 0 ? Math.log10(round.change) : null));
  const limit = run.tolerance ? Math.log10(run.tolerance) : -4;
  const all = [...values.filter((value) => value !== null), limit, 0];
  const last = run.rounds.at(-1);
  const frame = framed(svg, all, last?.change ? `${shown(last.change)} in round ${last.number}.` : "Nothing yet.", power, 4, true);
  draw(svg, "line", { class: "limit", x1: frame.left, x2: frame.right, y1: frame.y(limit), y2: frame.y(limit) });
  line(svg, frame, values);
}

function framed(svg, values, text, label, count, whole = false) {
  const { width, height } = svg.getBoundingClientRect();
  svg.replaceChildren(svg.querySelector("desc"));
  svg.querySelector("desc").textContent = text;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const frame = { left: 46, right: width - 110, top: 8, bottom: height - 22 };
  const ticks = ticked(Math.min(...values), Math.max(...values), count, whole);
  const [low, high] = [ticks[0], ticks.at(-1)];
  frame.y = (value) => frame.bottom - ((value - low) / (high - low)) * (frame.bottom - frame.top);
  const span = Math.max(run.rounds.length - 1, 10);
  frame.x = (number) => frame.left + (number / span) * (frame.right - frame.left);
  for (const tick of ticks) {
    draw(svg, "line", { class: "grid", x1: frame.left, x2: frame.right, y1: frame.y(tick), y2: frame.y(tick) });
    draw(svg, "text", { x: frame.left - 6, y: frame.y(tick) + 4, "text-anchor": "end" }, label(tick));
  }
  for (const tick of ticked(0, span, width < 500 ? 3 : 6, true)) {
    if (tick <= span) draw(svg, "text", { x: frame.x(tick), y: height - 4, "text-anchor": "middle" }, tick);
  }
  draw(svg, "text", { x: frame.right + 9, y: height - 4 }, "round");
  return frame;
}

function line(parent, frame, values) {
  let path = "";
  let last = -1;
  values.forEach((value, number) => {
    if (value === null) return;
    path += `${last === number - 1 && path ? "L" : "M"}${frame.x(number).toFixed(1)} ${frame.y(value).toFixed(1)}`;
    last = number;
  });
  if (!path) return;
  draw(parent, "path", { d: path });
  draw(parent, "circle", { cx: frame.x(last), cy: frame.y(values[last]), r: 3 });
}

function ticked(low, high, count, whole) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(whole ? 1 : 0, [1, 2, 5, 10].find((factor) => factor * power >= rough) * power);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function draw(parent, name, attributes, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function cell(name, text, scope) {
  const element = document.createElement(name);
  element.textContent = text;
  if (scope) element.scope = scope;
  return element;
}

function shown(value) {
  if (value === null) return "";
  const small = value !== 0 && Math.abs(value) < 0.001;
  return (small ? value.toExponential(1) : value.toFixed(3)).replaceAll("-", "\u2212");
}

function plain(value) {
  return String(value).replaceAll("-", "\u2212");
}

function power(exponent) {
  return exponent === 0 ? "1" : `1e${exponent}`.replaceAll("-", "\u2212");
}

function counted(rounds) {
  return rounds === 1 ? "1 round" : `${rounds} rounds`;
}
