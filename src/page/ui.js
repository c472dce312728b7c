// `hull ui`: containers, images, reports; everything is asked of the server that the page came from.
{
  const token = new URLSearchParams(location.search).get("token");
  const place = h("section", { id: "place" });
  const problem = h("p", { class: "bad", role: "alert" });
  let leave = () => {};

  async function ask(path, options) {
    const answer = await fetch("/api/" + path, { ...options, headers: { "X-Hull-Token": token } });
    if (!answer.ok) throw new Error((await answer.json()).message);
    return answer;
  }

  // Shows something in place of what was there, which stops what it was doing.
  function show(make) {
    leave();
    const stop = new AbortController();
    leave = () => stop.abort();
    fill(problem);
    fill(place, h("p", { class: "soft" }, "…"));
    make(stop.signal).catch((error) => { if (!stop.signal.aborted) fill(problem, error.message); });
  }

  async function every(signal, look) {
    while (!signal.aborted) {
      await look();
      await new Promise((done) => setTimeout(done, 2000));
    }
  }

  const names = (one) => one.Names.map((name) => name.replace(/^\//, "")).join(", ");
  const health = (one) => (/\((healthy|unhealthy|health: starting)\)/.exec(one.Status) || [])[1];
  const light = (one) => h("i", { class: "state " + (health(one) === "unhealthy" ? "unhealthy" : one.State), title: one.State });
  const ports = (one) => (one.Ports || []).filter((port) => port.PublicPort).map((port) => port.PublicPort + " → " + port.PrivatePort + "/" + port.Type);

  async function containers(signal) {
    const cards = h("div", { class: "cards" }), none = h("p", { class: "soft" });
    fill(place, h("h2", {}, "Containers"), h("p", { class: "soft" }, "Each is a machine of its own. Choose one for its use, its log and a terminal."), none, cards);
    const known = new Map();
    await every(signal, async () => {
      const list = await (await ask("docker/containers/json?all=1", { signal })).json();
      fill(none, list.length === 0 && "None yet: hull run makes one.");
      // A card stays the same element, so that who points at it or has it in focus keeps it.
      const shown = list.map((one) => {
        if (!known.has(one.Id)) known.set(one.Id, overview(one, signal));
        known.get(one.Id).update(one);
        return known.get(one.Id).element;
      });
      if (shown.length !== cards.children.length || shown.some((card, index) => cards.children[index] !== card)) fill(cards, shown);
    });
  }

  // A container in the list, with what its processor does in a small graph.
  function overview(one, signal) {
    const head = h("h3", {}), about = h("span", { class: "note soft" }), curve = h("div"), labels = h("div", { class: "chips" });
    let now = one, before = null, use = [], busy = false;
    const element = h("button", { type: "button", class: "card", "data-container": one.Id, click: () => show((stop) => container(now, stop)) },
      head, about, h("span", { class: "step soft" }, one.Command), curve, labels);
    return {
      element,
      update(next) {
        now = next;
        fill(head, light(now), names(now));
        fill(about, [now.Image, now.Status, ...ports(now)].join(" · "));
        fill(labels, Object.entries(now.Labels || {}).map(([key, value]) => h("span", { class: "chip" }, key + "=" + value)));
        if (now.State !== "running") { before = null; use = []; fill(curve); return; }
        if (busy) return;
        busy = true;
        sample(now, signal).then((own) => {
          if (before) use = [...use, share(before, own)].slice(-60);
          before = own;
          if (use.length > 0) fill(curve, graph(use, Math.max(100, ...use), tint(155)), h("span", { class: "note soft" }, percent(use[use.length - 1]) + " · " + size(own.memory)));
        }).catch(() => {}).finally(() => { busy = false; });
      },
    };
  }

  async function sample(one, signal) {
    const now = await (await ask("docker/containers/" + one.Id + "/stats?stream=0&one-shot=1", { signal })).json();
    return { cpu: now.cpu_stats.cpu_usage.total_usage, at: performance.now(), memory: now.memory_stats.usage || 0, limit: now.memory_stats.limit || 0 };
  }

  const share = (before, now) => (now.cpu - before.cpu) / 1e4 / Math.max(1, now.at - before.at);
  const percent = (value) => value.toFixed(1) + " % of a processor";

  async function container(one, signal) {
    const log = h("pre", { class: "log card" }), stats = h("div", { class: "cards stats" }), shell = h("div");
    const running = one.State === "running";
    const open = h("button", { type: "button", class: "shell", click: () => terminal(one, shell, signal) }, "Open a terminal");
    fill(place, h("h2", {}, light(one), names(one)),
      h("ul", { class: "chips" }, [one.Image, one.Status, ...ports(one), one.Id.slice(0, 12)].map((text) => h("li", { class: "chip" }, text))),
      h("p", { class: "step" }, one.Command), stats, running ? open : h("p", { class: "soft" }, "It does not run: no use to show, no terminal to open."),
      shell, h("h2", {}, "Log"), log);
    if (running) live(one, stats, signal);
    await logs(one, log, signal);
  }

  function live(one, stats, signal) {
    let before = null;
    const use = [], memory = [];
    const tile = (title, value, note, picture) => h("figure", { class: "card" }, h("figcaption", { class: "soft small" }, title), h("span", { class: "big" }, value), h("span", { class: "soft small" }, " " + note), picture);
    fill(stats, h("p", { class: "soft" }, "Measuring…"));
    every(signal, async () => {
      const now = await sample(one, signal);
      if (before) use.push(share(before, now));
      before = now;
      memory.push(now.memory);
      for (const values of [use, memory]) if (values.length > 60) values.shift();
      const last = use[use.length - 1];
      fill(stats,
        tile("Processor, the last two minutes", last === undefined ? "…" : last.toFixed(1) + " %", "of a processor", graph(use, Math.max(100, ...use), tint(155))),
        tile("Memory, of what it may have", size(now.memory), "of " + size(now.limit) + " memory", graph(memory, now.limit, tint(250))));
    }).catch((error) => { if (!signal.aborted) fill(stats, h("p", { class: "bad" }, error.message)); });
  }

  async function logs(one, log, signal) {
    const answer = await ask("docker/containers/" + one.Id + "/logs?stdout=1&stderr=1&follow=1&tail=500", { signal });
    const framed = (answer.headers.get("content-type") || "").includes("multiplexed");
    const decoder = new TextDecoder();
    let rest = new Uint8Array();
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) return;
      let bytes = new Uint8Array([...rest, ...value]), text = "";
      while (framed && bytes.length >= 8) {
        const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4);
        if (bytes.length < 8 + length) break;
        text += decoder.decode(bytes.subarray(8, 8 + length), { stream: true });
        bytes = bytes.slice(8 + length);
      }
      if (!framed) { text = decoder.decode(bytes, { stream: true }); bytes = new Uint8Array(); }
      rest = bytes;
      log.append(text);
      log.scrollTop = log.scrollHeight;
    }
  }

  async function terminal(one, shell, signal) {
    const element = h("pre", { class: "terminal mono", tabindex: "0", "aria-label": "Terminal" });
    const screen = new Screen(element, 24, 80);
    fill(shell, element);
    element.focus();
    try {
      const answer = await ask("terminal/" + one.Id + "?rows=24&columns=80", { method: "POST", signal });
      const id = answer.headers.get("x-hull-terminal");
      // What is typed arrives in the order in which it was typed.
      let sent = Promise.resolve();
      const send = (text) => { sent = sent.then(() => ask("terminal/" + id + "/input", { method: "POST", body: text, signal })).catch(() => {}); };
      element.addEventListener("keydown", (event) => {
        const text = typed(event, screen);
        if (text) { event.preventDefault(); send(text); }
      });
      element.addEventListener("paste", (event) => { event.preventDefault(); send(event.clipboardData.getData("text")); });
      for (const reader = answer.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        screen.write(value);
      }
      shell.append(h("p", { class: "soft" }, "The shell has ended."));
    } catch (error) {
      if (!signal.aborted) shell.append(h("p", { class: "bad" }, error.message));
    }
  }

  async function images(signal) {
    const list = await (await ask("images", { signal })).json();
    const order = [...new Set(list.flatMap((one) => one.layers.map((layer) => layer.digest)))];
    const colour = (digest) => tint(order.indexOf(digest) * 137.5 + 110);
    const most = Math.max(1, ...list.flatMap((one) => one.layers.map((layer) => layer.size)));
    const users = (digest) => list.filter((one) => one.layers.some((layer) => layer.digest === digest)).length;
    fill(place, h("h2", {}, "Images"), list.length === 0 ? h("p", { class: "soft" }, "None yet: hull pull or hull build makes one.")
      : h("p", { class: "soft" }, "Each image is a stack of layers, the longer the larger. The same colour is the same layer: it is stored once."),
      h("div", { class: "cards small" }, list.map((one) => h("button", { type: "button", class: "card", "data-image": one.id, click: () => show((s) => layers(one.id, s)) },
        h("h3", {}, one.names.join(", ") || short(one.id)),
        h("span", { class: "pile" }, [...one.layers].reverse().map((layer) => h("span", { hue: colour(layer.digest), width: Math.max(4, 100 * Math.sqrt(layer.size / most)) + "%",
          title: short(layer.digest) + ", " + size(layer.size) + (users(layer.digest) > 1 ? ", in " + users(layer.digest) + " images" : "") }))),
        h("span", { class: "note soft" }, one.platform + " · " + plural(one.layers.length, "layer") + " · " + size(one.size))))));
  }

  async function layers(id, signal) {
    const stack = await (await ask("layers/" + encodeURIComponent(id), { signal })).json();
    fill(place, h("h2", {}, "Layers of " + stack.name), summary(stack), picture(stack));
  }

  async function reports(signal) {
    const list = (await (await ask("reports", { signal })).json()).reverse();
    const first = (one) => one.columns.flatMap((column) => column.figures.filter((figure) => figure.id === "first_ms").map((figure) => ({ id: column.id, ms: figure.median })));
    const strip = (one) => {
      const found = first(one), most = Math.max(...found.map((column) => column.ms), Number.MIN_VALUE);
      return h("span", { class: "pile" }, found.map((column) => h("span", { hue: placeTint(column.id), width: 100 * column.ms / most + "%", title: column.id + ": " + figureText(column.ms) + " ms" })));
    };
    fill(place, h("h2", {}, "Comparisons"), list.length === 0 ? h("p", { class: "soft" }, "None yet: hull compare IMAGE makes one.") : h("p", { class: "soft" }, "The bars: from the request to the first instruction, in each place that the program ran in."),
      h("div", { class: "cards small" }, list.map((one) => h("button", { type: "button", class: "card report", click: () => { leave(); fill(place, comparison(one)); } },
        h("h3", {}, one.image), h("span", { class: "step soft" }, (one.command || []).join(" ")), strip(one),
        h("span", { class: "note soft" }, one.begun.slice(0, 16).replace("T", " ") + " · " + one.columns.map((column) => column.id).join(", "))))));
  }

  const tabs = [["Containers", containers], ["Images", images], ["Comparisons", reports]];
  const buttons = tabs.map(([name, make]) => h("button", { type: "button", id: name.toLowerCase(), click: () => visit(name, make) }, name));
  function visit(name, make) {
    for (const button of buttons) button.setAttribute("aria-current", String(button.id === name.toLowerCase()));
    show(make);
  }
  fill(document.getElementById("page"), h("header", { class: "top" }, h("h1", {}, "hull"), h("nav", {}, buttons)), problem, place);
  visit(...tabs[0]);
}
