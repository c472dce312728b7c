// The layers of an image, and what they look like on top of each other.
function hue(number) {
  return tint(number * 137.5 + 110);
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

// The picture: layers as bands, paths that run through them, and the files of what is chosen.
function picture(stack) {
  let selected = stack.layers.length;
  let single = false;
  const files = h("div", { class: "files" }), about = h("div", { class: "card about" });
  const title = h("h2", {}), answer = h("div", { class: "answer" });
  const mode = h("button", { type: "button", class: "mode", click: () => { single = !single; show(); } });
  const search = h("input", { type: "search", class: "grow", placeholder: "Find a path: /etc/passwd", "aria-label": "Find a path" });
  const ask = (path) => { search.value = path; fill(answer, tell(stack, path)); };
  search.addEventListener("input", () => fill(answer, tell(stack, search.value)));
  const side = overlay(stack, (number) => { selected = number; show(); }, (path) => { ask(path); answer.scrollIntoView({ block: "nearest" }); });

  function show() {
    const layer = stack.layers[selected - 1];
    const root = single ? alone(layer) : merged(stack, selected);
    const whole = selected === stack.layers.length;
    side.choose(selected);
    fill(about, card(stack, layer));
    fill(title, single ? "What layer " + selected + " holds" : whole ? "What a container sees" : "Layers 1 to " + selected + " together");
    fill(mode, single ? "Show the layers together" : "Show this layer alone");
    fill(files, h("p", { class: "soft count" }, plural(count(root), "path")), tree(root, single, count(root) <= few));
  }

  if (stack.layers.length === 0) return h("p", { class: "soft" }, "This image has no layers.");
  show();
  return [
    h("h2", {}, "The stack, seen from the side"),
    h("p", { class: "soft" }, "Each band is a layer, the topmost first; each column is a path. Looking down from the top, the first layer that has a path is the one that is seen. Choose a band to look from there."),
    h("div", { class: "card scroll" }, side.element), key(),
    h("div", { class: "split" },
      h("section", {}, h("h2", {}, "The chosen layer"), about),
      h("section", {}, title, h("div", { class: "row noprint" }, mode, search), answer, h("div", { class: "card" }, files))),
  ];
}

function key() {
  const item = (name, sign, text) => h("li", { class: "row" }, h("span", { class: "overlay" }, h("span", { class: "cell " + name, hue: hue(1) }, sign)), text);
  return h("ul", { class: "legend keys" }, item("has", "+", "adds it"), item("has", "~", "changes it"), item("under", "", "has it, but a layer above hides that"),
    item("out", "×", "hides what is below"), item("has opaque", "~", "a directory that hides all that was in it (opaque)"), item("view", "1", "what is seen, and the layer that it comes from"));
}

// What a layer is, whole.
function card(stack, layer) {
  const largest = Math.max(1, ...stack.layers.map((one) => one.size));
  const signs = [["added", "+", "good"], ["changed", "~", "warn"], ["hidden", "−", "bad"]];
  return [
    h("div", { class: "row" }, h("span", { class: "tag", hue: hue(layer.number) }, layer.number), h("span", { class: "big" }, size(layer.size))),
    h("span", { class: "step" }, layer.step || "(no step in the history)"),
    h("span", { class: "bar" }, h("span", { hue: hue(layer.number), width: 100 * layer.size / largest + "%" }, waste(layer))),
    h("ul", { class: "chips" }, signs.filter(([what]) => layer[what]).map(([what, sign, tone]) => h("li", { class: "chip " + tone }, sign + " " + layer[what].toLocaleString("en") + " " + what)),
      layer.wasted > 0 && h("li", { class: "chip" }, size(layer.wasted) + " never seen")),
    layer.settings.length > 0 && h("p", { class: "small soft" }, "Steps after it that changed no file:"), layer.settings.map((step) => h("span", { class: "step soft" }, step)),
    h("p", { class: "small soft" }, layer.digest ? ["Digest ", h("code", {}, layer.digest)] : "A container's writable layer: it has no digest, it still changes."),
    layer.compressed > 0 && h("p", { class: "small soft" }, size(layer.compressed) + " to download"),
    layer.images.length > 0 && h("p", { class: "small" }, "Also in " + layer.images.join(", ") + ": stored once."),
  ];
}

function waste(layer) {
  return layer.wasted > 0 && h("i", { title: size(layer.wasted) + " never seen", width: 100 * layer.wasted / layer.size + "%" });
}

function tell(stack, path) {
  if (!path.trim()) return null;
  const found = versions(stack, path.trim());
  if (found.length === 0) return h("p", { class: "soft" }, "No layer has anything at " + path);
  const seen = found.some(({ change }) => change.seen);
  return h("div", { class: "panel" }, h("h3", { class: "mono" }, path), found.reverse().map(({ layer, change }) => h("p", {},
    h("span", { class: "tag", hue: hue(layer.number) }, layer.number),
    signs[change.what] + " " + change.what + (change.file ? ", " + change.file + " of " + size(change.size) : ""),
    change.seen && h("strong", { class: "good" }, " — this is what a container sees"),
    h("span", { class: "note soft" }, " " + layer.step))), !seen && h("p", { class: "warn" }, "A container does not see it."));
}

function summary(stack) {
  const total = Math.max(1, stack.size);
  const facts = [stack.platform, plural(stack.layers.length, "layer"), size(stack.size) + " of files", plural(stack.visible, "path") + " seen"];
  return [
    h("ul", { class: "chips facts" }, facts.map((text) => h("li", { class: "chip" }, text)),
      h("li", { class: stack.wasted > 0 ? "chip warn" : "chip good" }, size(stack.wasted) + " never seen"),
      h("li", { class: "chip" }, stack.container ? "container " + stack.container.slice(0, 12) : "image " + short(stack.id))),
    h("div", { class: "share", role: "img", "aria-label": "bytes of each layer" }, stack.layers.filter((layer) => layer.size > 0).map((layer) =>
      h("span", { hue: hue(layer.number), width: 100 * layer.size / total + "%", title: "layer " + layer.number + ": " + size(layer.size) }, waste(layer)))),
    h("p", { class: "soft small" }, "Where the bytes are: the bottom layer on the left" + (stack.wasted > 0 ? "; what is hatched lies in a layer and no container sees it." : ".")),
    stack.shared.length > 0 && h("p", { class: "shared" }, "In common with other images, stored once: " +
      stack.shared.map((other) => other.image + " (" + plural(other.layers, "layer") + ", " + size(other.size) + ")").join("; ")),
  ];
}
