// Plots: bars with their spread, and time lines.
function figureText(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// One bar per column on a scale that shows small beside large: the logarithm where the values are far apart.
function bars(title, unit, rows, note) {
  const wide = 640, left = 190, right = 150, line = 26, top = 8;
  const values = rows.flatMap((row) => [row.low, row.high]).filter((value) => value > 0);
  const most = Math.max(...values), least = Math.min(...values);
  const far = most / least > 20;
  const floor = least / 2;
  const place = (value) => {
    const part = far ? Math.log(Math.max(value, floor) / floor) / Math.log(most / floor) : value / most;
    return left + part * (wide - left - right);
  };
  const high = top * 2 + rows.length * line;
  const plot = svg("svg", { class: "plot", viewBox: "0 0 " + wide + " " + high, role: "img", "aria-label": title });
  rows.forEach((row, index) => {
    const y = top + index * line;
    const end = place(row.median);
    plot.append(
      svg("text", { x: left - 8, y: y + 16, "text-anchor": "end" }, row.name),
      svg("rect", { x: left, y: y + 4, width: Math.max(1, end - left), height: 16, fill: row.colour }),
      svg("line", { x1: place(row.low), x2: place(row.high), y1: y + 12, y2: y + 12, stroke: "currentColor", "stroke-width": 2 }),
      svg("text", { x: Math.max(end, place(row.high)) + 6, y: y + 16 }, figureText(row.median) + " " + unit));
  });
  plot.append(svg("line", { class: "axis", x1: left, x2: left, y1: top, y2: high - top }));
  return h("figure", { class: "panel" }, h("figcaption", {}, h("strong", {}, title), h("span", { class: "soft" }, " " + note + (far ? ", logarithmic" : ""))), h("div", { class: "scroll" }, plot));
}

// The parts of the way to the first instruction, one line per column, all on one scale.
function timeline(columns) {
  const total = (column) => column.timeline.reduce((sum, stage) => sum + stage.ms, 0);
  const most = Math.max(...columns.map(total));
  return columns.map((column) => h("div", { class: "line" },
    h("p", {}, h("strong", {}, column.title), " " + figureText(total(column)) + " ms"),
    h("div", { class: "stages", width: Math.max(1, 100 * total(column) / most) + "%" },
      column.timeline.map((stage, index) => h("span", { hue: "hsl(" + (index * 67 + 210) % 360 + " 60% 50%)", width: 100 * stage.ms / (total(column) || 1) + "%", title: stage.name }))),
    h("p", { class: "soft note" }, column.timeline.map((stage) => figureText(stage.ms) + " ms " + stage.name).join(" · "))));
}
