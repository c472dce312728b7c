// The stack seen from the side: a band per layer, a column per path, and above them what is seen.
const columnsShown = 20;

// Paths that show something: those that several layers touch first, then the largest file of each layer.
function telling(stack) {
  const touched = new Map();
  for (const layer of stack.layers) {
    for (const change of layer.changes) {
      const one = touched.get(change.path) || { path: change.path, times: 0, hides: 0, size: 0, directory: true, layer: layer.number };
      one.times += 1;
      one.hides += change.what === "hidden" || change.opaque ? 1 : 0;
      one.size = Math.max(one.size, change.size);
      if (change.file && change.file !== "directory") one.directory = false;
      touched.set(change.path, one);
    }
  }
  const all = [...touched.values()];
  const worth = (one) => one.times * 4 + one.hides * 2 - (one.directory ? 3 : 0);
  const several = all.filter((one) => one.times > 1).sort((a, b) => worth(b) - worth(a) || (a.path < b.path ? -1 : 1)).slice(0, Math.ceil(columnsShown * 0.7));
  const chosen = new Set(several.map((one) => one.path));
  const alone = all.filter((one) => !chosen.has(one.path)).sort((a, b) => worth(b) - worth(a) || b.size - a.size || (a.path < b.path ? -1 : 1));
  for (const layer of [...stack.layers].reverse()) {
    const own = alone.find((one) => one.layer === layer.number && !chosen.has(one.path));
    if (own && chosen.size < columnsShown) chosen.add(own.path);
  }
  for (const one of alone) if (chosen.size < Math.min(columnsShown, 12)) chosen.add(one.path);
  const sorted = [...chosen].sort(), twice = (path) => touched.get(path).times > 1;
  return [...sorted.filter(twice), ...sorted.filter((path) => !twice(path))];
}

// What each layer does to a path: has it, takes it out, or nothing.
function story(stack, path) {
  const above = path.split("/").slice(0, -1).map((part, index, all) => all.slice(0, index + 1).join("/"));
  let there = false;
  return stack.layers.map((layer) => {
    let what = null;
    for (const change of layer.changes) {
      if (above.includes(change.path) && there && (change.opaque || change.file !== "directory")) { what = { out: true }; there = false; }
    }
    const own = layer.changes.find((change) => change.path === path);
    if (own && own.what === "hidden") { what = { out: true }; there = false; }
    else if (own) { what = { has: true, opaque: own.opaque, sign: own.what === "changed" || there ? "~" : "+" }; there = true; }
    return what;
  });
}

function overlay(stack, choose, ask) {
  const paths = telling(stack);
  const stories = paths.map((path) => story(stack, path));
  const element = h("div", { class: "overlay" });
  element.style.gridTemplateColumns = "max-content repeat(" + Math.max(1, paths.length) + ", 2.3rem)";
  const views = paths.map(() => h("span", { class: "cell view" }));
  add(element, [h("span", { class: "corner" }), paths.map((path) => h("button", { type: "button", class: "path mono", title: "/" + path, click: () => ask("/" + path) }, tail(path))),
    h("span", { class: "eye" }, "what is seen"), views]);
  const bands = [...stack.layers].reverse().map((layer) => {
    const band = h("button", { type: "button", class: "band", hue: hue(layer.number), "data-layer": layer.number, title: layer.step, click: () => choose(layer.number) },
      h("strong", {}, layer.number + "  "), h("span", { class: "mono" }, plain(layer.step)));
    const cells = paths.map((path, index) => ({ index, element: h("span", { class: "cell", title: "/" + path }) }));
    add(element, [band, cells.map((cell) => cell.element)]);
    return { layer, band, cells };
  });
  return {
    element,
    choose(top) {
      const winners = stories.map((one) => {
        const last = one.slice(0, top).findLastIndex((what) => what);
        return last >= 0 && one[last].has ? last + 1 : 0;
      });
      views.forEach((view, index) => {
        fill(view, winners[index] || "–");
        view.className = winners[index] ? "cell view" : "cell view none";
        view.style.setProperty("--hue", hue(winners[index]));
      });
      for (const { layer, band, cells } of bands) {
        const above = layer.number > top;
        band.setAttribute("aria-pressed", String(layer.number === top));
        band.classList.toggle("above", above);
        for (const { index, element: cell } of cells) {
          const what = stories[index][layer.number - 1];
          const under = what && what.has && !above && winners[index] !== layer.number;
          cell.className = ["cell", what && what.has && (under ? "under" : "has"), what && what.out && "out", what && what.opaque && !under && "opaque", above && "above"].filter(Boolean).join(" ");
          cell.style.setProperty("--hue", hue(layer.number));
          fill(cell, !what ? "" : what.out ? "×" : under ? "" : what.sign);
        }
      }
    },
  };
}

// The end of a long path: its beginning says less.
function tail(path) {
  return path.length > 21 ? "…" + path.slice(-20) : "/" + path;
}

// A step without what every step begins with.
function plain(step) {
  return (step || "(no step in the history)").replace(/^(?:RUN )?\/bin\/sh -c (?:#\(nop\) )?/, (start) => start.includes("nop") ? "" : "RUN ");
}
