// Plots: what was measured, each value of it, and time lines.
function figureText(value) {
  return value >= 100 ? Number(value.toFixed(0)).toLocaleString("en") : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// One line per place. Where the values are far apart the scale is the logarithm, which has no zero that a bar
// could begin at: points then.
function bars(title, unit, rows, note) {
  const values = rows.flatMap((row) => [row.low, row.high]).filter((value) => value > 0);
  const most = Math.max(...values, Number.MIN_VALUE), least = Math.min(...values);
  const far = values.length > 0 && most / least > 25;
  const [floor, roof] = far ? [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))] : [0, most * 1.05];
  const place = (value) => 100 * (far ? (Math.log10(Math.max(value, 10 ** floor)) - floor) / (roof - floor) : value / roof) + "%";
  const step = far ? Math.ceil((roof - floor) / 5) : 0;
  const decades = far ? [...Array(Math.floor((roof - floor) / step) + 1).keys()].map((index) => 10 ** (floor + index * step)) : [];
  const first = rows[0];
  const times = (row) => {
    const ratio = first && first.median > 0 ? row.median / first.median : 0;
    return row !== first && ratio > 0 && h("span", { class: "note soft" }, ratio >= 0.1 ? "× " + (ratio >= 9.95 ? ratio.toFixed(0) : ratio.toFixed(1)) : "1 / " + (1 / ratio).toFixed(0));
  };
  return h("figure", { class: "card plot" },
    h("figcaption", {}, h("h3", {}, title), h("span", { class: "soft small" }, note + (far ? " · each mark is 10 times the one before".replace("10", 10 ** step) : ""))),
    h("div", { class: "bars", role: "img", "aria-label": title + ": " + rows.map((row) => row.name + " " + figureText(row.median) + " " + unit).join(", ") },
      rows.map((row) => [
        h("span", {}, row.name),
        h("span", { class: "track", hue: row.colour, title: row.values.map(figureText).join(", ") + " " + unit },
          decades.map((value) => h("i", { class: "grid", left: place(value) })),
          far ? h("i", { class: "median", left: place(row.median) }) : h("i", { class: "bar", width: place(row.median) }),
          h("i", { class: "range", left: place(row.low), width: "calc(" + place(row.high) + " - " + place(row.low) + ")" }),
          row.values.map((value) => h("i", { class: "run", left: place(value) }))),
        h("span", { class: "value" }, figureText(row.median) + " " + unit, times(row)),
      ]),
      far && h("span", { class: "ticks", "aria-hidden": "true" }, decades.map((value) => h("span", { left: place(value) }, value >= 1e6 ? value / 1e6 + "M" : value >= 1e3 ? value / 1e3 + "k" : String(Number(value.toPrecision(1))))))));
}

// The parts of the way to the first instruction: all on one scale, then each drawn out to see its parts.
function timeline(columns, colour) {
  const total = (column) => column.timeline.reduce((sum, stage) => sum + stage.ms, 0);
  const most = Math.max(...columns.map(total), Number.MIN_VALUE);
  const shade = (index) => tint(index * 137 + 250);
  return [
    h("figure", { class: "card" }, h("figcaption", {}, h("h3", {}, "All on one scale")),
      h("div", { class: "bars" }, columns.map((column) => [
        h("span", {}, column.id),
        h("span", { class: "track", hue: colour(column.id) }, h("i", { class: "bar", width: "max(3px, " + 100 * total(column) / most + "%)" })),
        h("span", { class: "value" }, figureText(total(column)) + " ms")]))),
    h("div", { class: "cards" }, columns.map((column) => h("figure", { class: "card" },
      h("figcaption", {}, h("h3", {}, column.id), h("span", { class: "soft small" }, figureText(total(column)) + " ms, drawn out to the full width")),
      h("div", { class: "stages" }, column.timeline.map((stage, index) => h("span", { hue: shade(index), width: 100 * stage.ms / (total(column) || 1) + "%", title: stage.name }))),
      h("ul", { class: "legend" }, column.timeline.map((stage, index) => h("li", {}, h("i", { class: "key", hue: shade(index) }), figureText(stage.ms) + " ms " + stage.name)))))),
  ];
}

// One square for each system call of the host: filled where the sandbox lets it through.
function waffle(reached, all, colour) {
  const wide = 28, side = 6, step = 8;
  const squares = (from, to) => [...Array(Math.max(0, to - from)).keys()].map((index) => {
    const at = from + index;
    return "M" + at % wide * step + " " + Math.floor(at / wide) * step + "h" + side + "v" + side + "h-" + side + "z";
  }).join("");
  const picture = svg("svg", { class: "waffle", viewBox: "0 0 " + wide * step + " " + Math.ceil(all / wide) * step, role: "img", "aria-label": reached + " of " + all + " system calls" },
    svg("path", { class: "open", d: squares(0, reached) }), svg("path", { class: "shut", d: squares(reached, all) }));
  picture.style.setProperty("--hue", colour);
  return picture;
}

// A value over the last while: the newest on the right.
function graph(values, most, colour) {
  const wide = 100, high = 40, steps = Math.max(1, 60 - 1);
  const top = most || Math.max(...values, Number.MIN_VALUE);
  const point = (value, index) => [wide - (values.length - 1 - index) * wide / steps, high - Math.min(1, value / top) * (high - 2)];
  const points = values.map(point);
  const line = points.map(([x, y]) => x.toFixed(2) + " " + y.toFixed(2)).join(" L ");
  const picture = svg("svg", { class: "graph", viewBox: "0 0 " + wide + " " + high, preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "axis", d: "M 0 " + high + " H " + wide }));
  if (points.length > 0) {
    picture.append(svg("path", { class: "area", d: "M " + points[0][0].toFixed(2) + " " + high + " L " + line + " V " + high + " Z" }), svg("path", { class: "curve", d: "M " + line }));
  }
  picture.style.setProperty("--hue", colour);
  return picture;
}
