// The layers of an image, and what they look like on top of each other.
function hue(number) {
  return "hsl(" + ((number * 67 + 150) % 360) + " 60% 50%)";
}

// What a container would see if the stack ended at layer `top`: a tree of nodes.
function merged(stack, top) {
  const root = { children: new Map(), layer: 0, change: { file: "directory" } };
  for (const layer of stack.layers) {
    if (layer.number > top) break;
    for (const change of layer.changes) {
      const names = change.path.split("/");
      const name = names.pop();
      let node = root;
      for (const part of names) {
        if (node) node = node.children.get(part);
      }
      if (!node) continue;
      const before = node.children.get(name);
      if (change.what === "hidden") {
        node.children.delete(name);
        continue;
      }
      const both = before && before.change.file === "directory" && change.file === "directory";
      const children = both && !change.opaque ? before.children : new Map();
      node.children.set(name, { children, layer: layer.number, change });
    }
  }
  return root;
}

// What one layer holds, with the directories on the way.
function alone(layer) {
  const root = { children: new Map(), layer: 0, change: null };
  for (const change of layer.changes) {
    let node = root;
    const names = change.path.split("/");
    for (const [index, part] of names.entries()) {
      let next = node.children.get(part);
      if (!next) {
        next = { children: new Map(), layer: layer.number, change: null };
        node.children.set(part, next);
      }
      if (index === names.length - 1) next.change = change;
      node = next;
    }
  }
  return root;
}

function count(node) {
  let all = 0;
  for (const child of node.children.values()) all += 1 + count(child);
  return all;
}

const signs = { added: "+", changed: "~", hidden: "−" };

// So many paths are all shown at once.
const few = 60;

// A list of what is in a directory; what is in those below is made when they are opened.
function tree(node, single, unfold) {
  const names = [...node.children.keys()].sort();
  return h("ul", { class: "tree" }, names.map((name) => entry(name, node.children.get(name), single, unfold)));
}

function entry(name, node, single, unfold) {
  const change = node.change;
  const gone = change && change.what === "hidden";
  const notes = [];
  if (change && change.file === "file") notes.push(size(change.size));
  if (change && change.file && change.file !== "file" && change.file !== "directory") notes.push(change.file);
  if (single && change) {
    if (change.opaque) notes.push("opaque");
    if (change.hides) notes.push("hides " + change.hides);
    if (change.same) notes.push("same content");
    if (!gone && !change.seen) notes.push("not seen");
  }
  const tag = single ? (change ? signs[change.what] : "·") : String(node.layer);
  const label = [
    h("span", { class: "tag", hue: hue(node.layer), title: "layer " + node.layer }, tag),
    h("span", { class: gone ? "gone mono" : "mono" }, name + (node.children.size ? "/" : "")),
    notes.length > 0 && h("span", { class: "soft" }, " " + notes.join(", ")),
  ];
  if (node.children.size === 0) return h("li", {}, h("span", { class: "leaf" }, label));
  const details = h("details", {}, h("summary", {}, label));
  const unfolded = () => {
    if (details.open && details.children.length === 1) details.append(tree(node, single, unfold));
  };
  details.addEventListener("toggle", unfolded);
  details.open = unfold;
  unfolded();
  return h("li", {}, details);
}

// Every version of a path and what became of it, bottom first.
function versions(stack, path) {
  const wanted = path.replace(/^\/+|\/+$/g, "");
  const found = [];
  for (const layer of stack.layers) {
    for (const change of layer.changes) {
      if (change.path === wanted) found.push({ layer, change });
    }
  }
  return found;
}

// The picture: layers on the left, files on the right.
function picture(stack) {
  const largest = Math.max(1, ...stack.layers.map((layer) => layer.size));
  const list = h("ol", { class: "stack", reversed: true });
  const files = h("div", { class: "files" });
  const title = h("h2", {});
  const mode = h("button", { type: "button", class: "mode", click: () => { single = !single; show(); } });
  const answer = h("div", { class: "answer" });
  const search = h("input", { type: "search", class: "grow", placeholder: "/etc/passwd", "aria-label": "Find a path" });
  search.addEventListener("input", () => fill(answer, tell(stack, search.value)));
  let selected = stack.layers.length;
  let single = false;

  function show() {
    for (const [index, layer] of [...stack.layers].reverse().entries()) {
      const button = list.children[index].firstChild;
      button.setAttribute("aria-pressed", String(layer.number === selected));
      button.classList.toggle("above", !single && layer.number > selected);
    }
    const layer = stack.layers[selected - 1];
    const root = single ? alone(layer) : merged(stack, selected);
    const whole = selected === stack.layers.length;
    fill(title, single ? "What layer " + selected + " holds" : whole ? "What a container sees" : "Layers 1 to " + selected + " together");
    fill(mode, single ? "Show the layers together" : "Show this layer alone");
    fill(files, h("p", { class: "soft count" }, plural(count(root), "path")), tree(root, single, count(root) <= few));
  }

  for (const layer of [...stack.layers].reverse()) {
    const facts = [size(layer.size), short(layer.digest) || "writable"];
    for (const what of ["added", "changed", "hidden"]) if (layer[what]) facts.push(layer[what] + " " + what);
    if (layer.wasted) facts.push(size(layer.wasted) + " never seen");
    const pick = () => { selected = layer.number; show(); };
    list.append(h("li", {}, h("button", { type: "button", hue: hue(layer.number), click: pick, "data-layer": layer.number },
      h("span", { class: "step" }, layer.number + "  " + (layer.step || "(no step in the history)")),
      h("span", { class: "note" }, facts.join(" · ")),
      layer.settings.map((step) => h("span", { class: "note" }, "then " + step)),
      layer.images.length > 0 && h("span", { class: "note" }, "also in " + layer.images.join(", ")),
      h("span", { class: "bar" }, h("span", { width: (100 * layer.size / largest) + "%" })))));
  }
  if (stack.layers.length > 0) show();
  return h("div", { class: "split" },
    h("section", {}, h("h2", {}, "Layers, the topmost first"), list),
    h("section", {}, title, h("div", { class: "row noprint" }, mode, search), answer, files));
}

function tell(stack, path) {
  if (!path.trim()) return null;
  const found = versions(stack, path.trim());
  if (found.length === 0) return h("p", { class: "soft" }, "No layer has anything at " + path);
  return h("div", { class: "panel" }, found.reverse().map(({ layer, change }) => h("p", {},
    h("span", { class: "tag", hue: hue(layer.number) }, layer.number),
    signs[change.what] + " " + change.what + (change.file ? ", " + change.file + " of " + size(change.size) : ""),
    change.seen && h("strong", {}, " — this is what a container sees"),
    h("span", { class: "note soft" }, " " + layer.step))));
}

function summary(stack) {
  const parts = [plural(stack.layers.length, "layer"), size(stack.size) + " of files", size(stack.wasted) + " of them never seen"];
  return [
    h("p", { class: "facts" }, stack.platform + " · " + parts.join(" · ") + " · image " + short(stack.id)),
    stack.shared.length > 0 && h("p", { class: "soft shared" }, "In common with other images, stored once: " +
      stack.shared.map((other) => other.image + " (" + plural(other.layers, "layer") + ", " + size(other.size) + ")").join("; ")),
  ];
}
