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

  async function containers(signal) {
    const rows = h("tbody");
    fill(place, h("h2", {}, "Containers"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["name", "image", "command", "state", "labels"].map((name) => h("th", {}, name)))), rows)));
    await every(signal, async () => {
      const list = await (await ask("docker/containers/json?all=1", { signal })).json();
      fill(rows, list.length === 0 && h("tr", {}, h("td", { colspan: 5, class: "soft" }, "none yet")), list.map((one) => h("tr", {},
        h("td", {}, h("button", { type: "button", click: () => show((s) => container(one, s)) }, one.Names.map((name) => name.replace(/^\//, "")).join(", "))),
        h("td", {}, one.Image), h("td", { class: "mono" }, one.Command), h("td", {}, one.Status),
        h("td", {}, Object.entries(one.Labels || {}).map(([key, value]) => h("div", {}, key + "=" + value))))));
    });
  }

  async function container(one, signal) {
    const log = h("pre", { class: "log panel" }), stats = h("p", { class: "stats" }), shell = h("div");
    const open = h("button", { type: "button", class: "shell", click: () => terminal(one, shell, signal) }, "Open a terminal");
    fill(place, h("h2", {}, one.Names[0].replace(/^\//, "")), h("p", { class: "soft" }, one.Image + " · " + one.Status), stats, open, shell, h("h2", {}, "Log"), log);
    if (one.State === "running") live(one, stats, signal);
    await logs(one, log, signal);
  }

  function live(one, stats, signal) {
    let before = null;
    every(signal, async () => {
      const now = await (await ask("docker/containers/" + one.Id + "/stats?stream=0&one-shot=1", { signal })).json();
      const cpu = now.cpu_stats.cpu_usage.total_usage, at = Date.now();
      const used = before ? ((cpu - before.cpu) / 1e4 / Math.max(1, at - before.at)).toFixed(1) + " % of a processor" : "processor: measuring";
      before = { cpu, at };
      fill(stats, used + " · " + size(now.memory_stats.usage || 0) + " of " + size(now.memory_stats.limit || 0) + " memory");
    }).catch((error) => { if (!signal.aborted) fill(stats, error.message); });
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
    const screen = new Screen(element);
    fill(shell, element);
    element.focus();
    try {
      const answer = await ask("terminal/" + one.Id + "?rows=24&columns=80", { method: "POST", signal });
      const id = answer.headers.get("x-hull-terminal");
      // What is typed arrives in the order in which it was typed.
      let sent = Promise.resolve();
      const send = (text) => { sent = sent.then(() => ask("terminal/" + id + "/input", { method: "POST", body: text, signal })).catch(() => {}); };
      element.addEventListener("keydown", (event) => {
        const text = typed(event);
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
    const list = await (await ask("docker/images/json", { signal })).json();
    fill(place, h("h2", {}, "Images"), list.length === 0 && h("p", { class: "soft" }, "none yet"), h("ul", { class: "stack" }, list.map((one) => h("li", {},
      h("button", { type: "button", "data-image": one.Id, click: () => show((s) => layers(one, s)) },
        h("span", { class: "step" }, (one.RepoTags || []).join(", ") || short(one.Id)), h("span", { class: "note" }, size(one.Size) + " · " + short(one.Id)))))));
  }

  async function layers(one, signal) {
    const stack = await (await ask("layers/" + encodeURIComponent(one.Id), { signal })).json();
    fill(place, h("h2", {}, "Layers of " + stack.name), summary(stack), picture(stack));
  }

  async function reports(signal) {
    const list = (await (await ask("reports", { signal })).json()).reverse();
    fill(place, h("h2", {}, "Comparisons"), list.length === 0 && h("p", { class: "soft" }, "none yet: hull compare IMAGE makes one"),
      h("ul", { class: "stack" }, list.map((one) => h("li", {}, h("button", { type: "button", click: () => { fill(place, comparison(one)); } },
        h("span", { class: "step" }, one.image + " " + (one.command || []).join(" ")), h("span", { class: "note" }, one.begun))))));
  }

  const tabs = [["Containers", containers], ["Images", images], ["Comparisons", reports]];
  fill(document.getElementById("page"), h("h1", {}, "hull"),
    h("nav", {}, tabs.map(([name, make]) => h("button", { type: "button", id: name.toLowerCase(), click: () => show(make) }, name))), problem, place);
  show(containers);
}
