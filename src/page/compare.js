// `hull compare --html`: a process, a container and microVMs side by side.
function comparison(report) {
  const run = report.columns.filter((column) => !column.why_not);
  const colour = (id) => "hsl(" + (report.columns.findIndex((column) => column.id === id) * 41 + 210) % 360 + " 55% 50%)";
  const seen = run.length > 0 ? run[0].sights.map((sight) => sight.name) : [];
  const sight = (column, name) => {
    const own = column.sights.find((one) => one.name === name);
    return h("td", { class: own.of_host ? "bad" : "good" }, own.value + (own.of_host ? " — the host's" : ""));
  };
  const head = () => h("tr", {}, h("td", {}), run.map((column) => h("th", {}, column.id)));
  const ids = [...new Set(run.flatMap((column) => column.figures.map((figure) => figure.id)))];
  const figure = (column, id) => column.figures.find((one) => one.id === id);
  const plots = ids.map((id) => {
    const rows = run.filter((column) => figure(column, id)).map((column) => {
      const own = figure(column, id);
      return { name: column.id, colour: colour(column.id), median: own.median, low: own.low, high: own.high };
    });
    const own = figure(run.find((column) => figure(column, id)), id);
    return bars(own.name, own.unit, rows, own.more_is_better ? "more is better" : "less is better");
  });
  const cell = (own) => own ? [figureText(own.median) + " " + own.unit, h("span", { class: "soft note" }, " " + figureText(own.low) + " to " + figureText(own.high))] : "–";
  return [
    h("h1", {}, report.image + ": process, container, microVM"),
    h("p", { class: "facts" }, report.host + " · " + report.begun.slice(0, 16).replace("T", " ") + " · medians of " + plural(report.runs, "run") + ", interleaved; the line in a bar goes from the smallest to the largest value"),
    report.command && h("p", {}, "The command: ", h("code", {}, report.command.join(" "))),
    h("h2", {}, "What they are"),
    h("div", { class: "scroll" }, h("table", { class: "about" },
      h("tr", {}, h("th", {}, "column"), h("th", {}, "what"), h("th", {}, "between it and the host")),
      report.columns.map((column) => h("tr", {}, h("td", {}, column.id), h("td", {}, column.title,
        column.why_not && h("p", { class: "warn" }, "Does not run here: " + column.why_not)), h("td", {}, column.boundary))))),
    h("h2", {}, "From the request to the first instruction"), timeline(run),
    h("h2", {}, "What the program sees"),
    h("p", { class: "soft" }, "Red is the host's own; green is the sandbox's."),
    h("div", { class: "scroll" }, h("table", { class: "seen" }, head(),
      seen.map((name) => h("tr", {}, h("th", {}, name), run.map((column) => sight(column, name)))))),
    h("h2", {}, "What of the host's kernel it can reach"),
    h("div", { class: "scroll" }, h("table", { class: "calls" }, h("tr", {}, h("th", {}, "column"), h("th", { class: "number" }, "system calls"), h("th", {}, "as told by")),
      run.filter((column) => column.host_calls).map((column) => h("tr", {}, h("td", {}, column.id), h("td", { class: "number" }, column.host_calls[0]), h("td", {}, column.host_calls[1]))))),
    h("h2", {}, "What it costs"), plots,
    h("h2", {}, "All numbers"),
    h("div", { class: "scroll" }, h("table", { class: "numbers" }, head(),
      ids.map((id) => h("tr", {}, h("th", {}, figure(run.find((column) => figure(column, id)), id).name),
        run.map((column) => h("td", {}, cell(figure(column, id)))))))),
  ];
}
