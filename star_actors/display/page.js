"use strict";
// Charts: the pointer and the arrow keys walk along the rounds, and the line below says what is there.
for (const chart of document.querySelectorAll(".chart")) {
  const { x, t } = JSON.parse(chart.querySelector("script").textContent);
  const track = chart.querySelector(".track"), cursor = chart.querySelector(".cursor");
  const readout = chart.querySelector(".readout");
  let at = x.length - 1;
  const show = (index) => {
    at = Math.max(0, Math.min(x.length - 1, index));
    cursor.setAttribute("x1", x[at] + "%");
    cursor.setAttribute("x2", x[at] + "%");
    cursor.setAttribute("visibility", "visible");
    readout.textContent = t[at];
    track.setAttribute("aria-valuenow", at);
    track.setAttribute("aria-valuetext", t[at]);
  };
  track.addEventListener("pointermove", (event) => {
    const box = track.getBoundingClientRect();
    const percent = 100 * (event.clientX - box.left) / box.width;
    let low = 0, high = x.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] > percent) high = middle; else low = middle;
    }
    show(percent - x[low] < x[high] - percent ? low : high);
  });
  track.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
  track.addEventListener("focus", () => show(at));
  track.addEventListener("blur", () => cursor.setAttribute("visibility", "hidden"));
  track.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(x.length / 10));
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page };
    if (event.key in steps) show(at + steps[event.key]);
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(x.length - 1);
    else return;
    event.preventDefault();
  });
}

// Logs: search and filter.
const form = document.querySelector(".filter");
if (form) {
  const { q, node, type, round } = form.elements;
  const found = document.querySelector(".found");
  const rows = Array.from(document.querySelectorAll(".logs li"), (item) => {
    const [r, w, m] = [".r", ".w", ".m"].map((part) => item.querySelector(part));
    const number = r.textContent === "start" ? -1 : Number(r.textContent);
    return { item, round: number, node: w.textContent, type: item.querySelector(".t").textContent, message: m,
      text: m.textContent.toLowerCase() };
  });
  const total = rows.length;
  const range = () => {
    const text = round.value.trim();
    const match = /^(\d+)(?:\s*-\s*(\d*))?$/.exec(text);
    round.setAttribute("aria-invalid", String(text !== "" && !match));
    if (!match) return [-1, Infinity];
    const low = Number(match[1]);
    return [low, match[2] === undefined ? low : match[2] === "" ? Infinity : Number(match[2])];
  };
  const mark = (words, shown) => {
    if (!CSS.highlights) return;
    const ranges = [];
    for (const row of words ? shown : []) {
      const node = row.message.firstChild;
      for (let i = row.text.indexOf(words); node && i >= 0 && ranges.length < 2000; i = row.text.indexOf(words, i + words.length)) {
        if (i + words.length > node.length) break;
        const part = new Range();
        part.setStart(node, i);
        part.setEnd(node, i + words.length);
        ranges.push(part);
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };
  const filter = () => {
    const words = q.value.toLowerCase(), [low, high] = range(), shown = [];
    for (const row of rows) {
      const fits = (!words || row.text.includes(words)) && (!node.value || row.node === node.value)
        && (!type.value || row.type === type.value) && row.round >= low && row.round <= high;
      row.item.hidden = !fits;
      if (fits) shown.push(row);
    }
    const lines = total === 1 ? " line" : " lines";
    found.textContent = shown.length === total ? total.toLocaleString("en") + lines
      : shown.length.toLocaleString("en") + " of " + total.toLocaleString("en") + lines;
    mark(words, shown);
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)
      && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      q.focus();
    } else if (event.key === "Escape" && form.contains(document.activeElement)) {
      form.reset();
      filter();
    }
  });
  filter();  // a browser may have kept what was typed before a reload
}
