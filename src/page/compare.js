// `hull compare --html`: a process, a container and microVMs side by side.
const hues = { process: 55, container: 250, uml: 155, kvm: 195, tcg: 310 };

function placeTint(id) {
  return tint(hues[id.split("-")[0]] ?? 0);
}

function comparison(report) {
  const run = report.columns.filter((column) => !column.why_not);
  const colour = placeTint;
  const name = (column) => h("span", {}, h("i", { class: "key", hue: colour(column.id) }), column.id);
  const ids = [...new Set(run.flatMap((column) => column.figures.map((figure) => figure.id)))];
  const figure = (column, id) => column.figures.find((one) => one.id === id);
  const having = (id) => run.filter((column) => figure(column, id));
  const plots = ids.map((id) => {
    const rows = having(id).map((column) => ({ ...figure(column, id), name: column.id, colour: colour(column.id) }));
    const own = figure(having(id)[0], id);
    return bars(own.name, own.unit, rows, own.more_is_better ? "more is better" : "less is better");
  });
  return [
    h("h1", {}, report.image + ": process, container, microVM"),
    facts(report),
    h("h2", {}, "What the program stands on"),
    h("p", { class: "soft" }, "The same program in each. What is drawn around it is all that stands between it and the host."),
    h("div", { class: "card" }, h("div", { class: "towers" }, run.map((column) => tower(column, report, colour(column.id))))),
    h("h2", {}, "From the request to the first instruction"), timeline(run.filter((column) => column.timeline.length > 0), colour),
    h("h2", {}, "What the program sees of the host"),
    h("p", { class: "soft" }, "Red is the host's own. Green is the sandbox's: a kernel, a log, disks of its own, or nothing."),
    seen(run, name),
    run.some((column) => column.host_calls) && [
      h("h2", {}, "What of the host's kernel it can reach"),
      h("p", { class: "soft" }, "Each square is one kind of system call of the host's kernel; filled are those that the sandbox lets through. A bug in one of them is a way out."),
      h("div", { class: "cards narrow" }, run.filter((column) => column.host_calls).map((column) => h("figure", { class: "card calls" },
        h("h3", {}, name(column)),
        report.host_calls && waffle(column.host_calls[0], report.host_calls, colour(column.id)),
        h("span", { class: "big" }, column.host_calls[0]), h("span", { class: "soft" }, report.host_calls ? " of " + report.host_calls : ""),
        h("span", { class: "note soft" }, column.host_calls[1]))))],
    ids.length > 0 && [
      h("h2", {}, "What it costs"),
      h("p", { class: "soft" }, "A bar, or a thick mark, is the median; each dot is one measurement, the line goes from the smallest to the largest. Where two lines overlap, this run shows no difference. × is how many times the first row's."),
      h("div", { class: "cards plots" }, plots),
      h("h2", {}, "All numbers"), numbers(run, ids, figure, name)],
    absent(report.columns.filter((column) => column.why_not)),
  ];
}

function facts(report) {
  const noise = report.noise;
  return [
    h("ul", { class: "chips" }, [report.host, report.begun.slice(0, 16).replace("T", " "), plural(report.runs, "round") + ", interleaved", report.instances > 0 && plural(report.instances, "idle instance") + " for memory"]
      .filter(Boolean).map((text) => h("li", { class: "chip" }, text)),
      noise && h("li", { class: noise.quiet ? "chip good" : "chip warn" }, noise.text)),
    report.command && h("p", {}, "The command: ", h("code", {}, report.command.join(" "))),
  ];
}

// What there is between a program and the host, from the program down.
function tower(column, report, colour) {
  const kind = column.id.split("-")[0], foreign = column.id.includes("-");
  const own = !column.sights.some((sight) => sight.name === "kernel" && sight.of_host);
  const program = h("div", { class: "floor program" }, "program", foreign && kind !== "tcg" && h("span", { class: "note" }, "translated by qemu-user"));
  const kernel = (column.kernel || "").split(" ")[0];
  const inside = kind === "process" ? [h("p", { class: "bare" }, "another root directory"), program]
    : kind === "container" ? h("div", { class: "wall thin" }, h("p", { class: "note" }, "namespaces, filter"), program)
    : h("div", { class: "wall" }, program, h("div", { class: "floor own" }, "its own kernel", h("span", { class: "note" }, kernel)),
      h("div", { class: "floor" }, { uml: "a process that traces it", kvm: "the CPU's own boundary", tcg: "an emulated CPU" }[kind]),
      h("p", { class: "note" }, "the machine's jail"));
  return h("div", { class: "tower", hue: colour },
    h("div", { class: "name" }, h("h3", {}, column.id), h("span", { class: "note soft" }, column.title)),
    inside,
    h("div", { class: own ? "floor host" : "floor host shared" }, own ? "the host's kernel" : "the host's kernel: shared", h("span", { class: "note" }, report.host.split(" ")[0])));
}

function seen(run, name) {
  const rows = run.length > 0 ? run[0].sights.map((sight) => sight.name) : [];
  const cell = (column, row) => {
    const own = column.sights.find((one) => one.name === row);
    return h("td", { class: own.of_host ? "of-host" : "of-own" }, own.of_host ? "the host's" : "its own", h("span", { class: "what" }, own.value));
  };
  return h("div", { class: "card scroll" }, h("table", { class: "seen" },
    h("thead", {}, h("tr", {}, h("td", {}), run.map((column) => h("th", {}, name(column))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", {}, row), run.map((column) => cell(column, row)))))));
}

function numbers(run, ids, figure, name) {
  const cell = (own) => own ? [figureText(own.median), h("span", { class: "note soft" }, figureText(own.low) + " to " + figureText(own.high))] : "–";
  const about = (id) => figure(run.find((column) => figure(column, id)), id);
  return h("div", { class: "card scroll" }, h("table", { class: "numbers" },
    h("thead", {}, h("tr", {}, h("td", {}), run.map((column) => h("th", {}, name(column))))),
    h("tbody", {}, ids.map((id) => h("tr", {}, h("th", {}, about(id).name, h("span", { class: "note soft" }, about(id).unit)),
      run.map((column) => h("td", {}, cell(figure(column, id)))))))));
}

function absent(columns) {
  return columns.length > 0 && [
    h("h2", {}, "What does not run here"),
    h("div", { class: "cards" }, columns.map((column) => h("div", { class: "card" }, h("h3", {}, column.id),
      h("span", { class: "note soft" }, column.title + " · " + column.boundary), h("p", { class: "warn" }, "Does not run here: " + column.why_not)))),
  ];
}
