// Quality against seconds or memory, as a scatter that is drawn when it is asked for. The table holds the same numbers.
const SVG = "http://www.w3.org/2000/svg";
const PLOT = { height: 340, left: 66, right: 20, top: 22, bottom: 46 };

function drawn(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function scaleOf(values, from, to, logarithmic) {
  const move = logarithmic ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...values.map(move)), Math.max(...values.map(move))];
  const margin = (high - low || Math.abs(high) * 0.1 || 1) * 0.12;
  [low, high] = [low - margin, high + margin];
  const place = (value) => from + ((move(value) - low) / (high - low)) * (to - from);
  const back = logarithmic ? (value) => 10 ** value : (value) => value;
  const ticks = [0.15, 0.5, 0.85].map((share) => back(low + share * (high - low)));
  return { place, ticks };
}

function drawPlot(figure, board, columnNumber, cost) {
  const column = board.columns[columnNumber];
  const points = board.rows
    .map((row) => ({ row, y: row.means[columnNumber], x: cost === "seconds" ? row.seconds : row.memory }))
    .filter((point) => point.y !== null && point.x !== null && point.x > 0)
    .map((point) => ({ ...point, x: cost === "memory" ? point.x / 2 ** 30 : point.x }));
  const holder = figure.querySelector(".drawing");
  holder.replaceChildren();
  const caption = figure.querySelector("figcaption");
  const unit = cost === "seconds" ? "seconds a scene" : "peak GiB";
  if (!points.length) {
    caption.textContent = `No row has both ${column.title} and ${unit}.`;
    return;
  }
  const width = Math.max(260, holder.clientWidth); // drawn as wide as it is shown, so that letters keep their size
  const x = scaleOf(points.map((point) => point.x), PLOT.left, width - PLOT.right, true);
  const y = scaleOf(points.map((point) => point.y), PLOT.height - PLOT.bottom, PLOT.top, false);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${PLOT.height}`, role: "img" });
  picture.setAttribute("aria-label", `${column.title} against ${unit} of ${points.length} rows; the table has the numbers.`);
  const [bottom, end] = [PLOT.height - PLOT.bottom, width - PLOT.right];
  for (const tick of x.ticks) {
    picture.append(drawn("line", { class: "grid", x1: x.place(tick), x2: x.place(tick), y1: PLOT.top, y2: bottom }));
    picture.append(drawn("text", { class: "tick", x: x.place(tick), y: bottom + 18, "text-anchor": "middle" }, Number(tick.toPrecision(2))));
  }
  for (const tick of y.ticks) {
    picture.append(drawn("line", { class: "grid", x1: PLOT.left, x2: end, y1: y.place(tick), y2: y.place(tick) }));
    picture.append(drawn("text", { class: "tick", x: PLOT.left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, Number(tick.toPrecision(3))));
  }
  const middle = (PLOT.left + end) / 2;
  picture.append(drawn("text", { class: "axis", x: middle, y: PLOT.height - 8, "text-anchor": "middle" }, `${unit}, logarithmic`));
  picture.append(drawn("text", { class: "axis", x: PLOT.left, y: 12 }, `${column.title} ${column.higher ? "↑" : "↓"} ${column.unit}`));
  const taken = [];
  for (const point of points.sort((a, b) => a.y - b.y)) {
    const [px, py] = [x.place(point.x), y.place(point.y)];
    const ranked = point.row.kind === "method";
    picture.append(drawn("circle", { class: ranked ? "method" : "floor", cx: px, cy: py, r: 5 }));
    let labelY = py + 4;
    while (taken.some((other) => Math.abs(other.y - labelY) < 13 && Math.abs(other.x - px) < 110)) labelY -= 13;
    taken.push({ x: px, y: labelY });
    const right = px < width * 0.7;
    const anchor = { x: right ? px + 10 : px - 10, y: labelY, "text-anchor": right ? "start" : "end" };
    picture.append(drawn("text", { class: ranked ? "name" : "name floor", ...anchor }, point.row.label));
  }
  holder.append(picture);
  caption.textContent = `Filled: methods. Hollow and grey: floors and diagnostics. ${column.higher ? "Up" : "Down"} and to the left is better.`;
}

function openPlot(button) {
  const board = boards.get(button.dataset.board);
  const figure = byId(`${board.id}-plot`);
  const opened = figure.hidden;
  figure.hidden = !opened;
  button.setAttribute("aria-expanded", String(opened));
  if (!opened || figure.firstChild) return;
  const quality = element("select", {}, ...board.columns.map((column, number) => element("option", { value: number }, column.title)));
  const cost = element("select", {}, element("option", { value: "seconds" }, "seconds"), element("option", { value: "memory" }, "memory"));
  const redraw = () => drawPlot(figure, board, Number(quality.value), cost.value);
  quality.addEventListener("change", redraw);
  cost.addEventListener("change", redraw);
  const controls = element("div", { className: "plot-controls" });
  controls.append(element("label", {}, "Quality ", quality), element("label", {}, "against ", cost));
  figure.append(controls, element("div", { className: "drawing" }), element("figcaption"));
  redraw();
}

for (const button of document.querySelectorAll(".open-plot")) button.addEventListener("click", () => openPlot(button));
