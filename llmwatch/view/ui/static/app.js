/* The frame: pages, the address that holds their state, the span of time, and what is new. */
"use strict";

(() => {
  const PAGES = { "": overview, requests, request, layers, machine, drift };
  const TABS = ["", "requests", "layers", "machine", "drift"];
  const KEPT = ["last", "since", "until", "service"]; // from page to page
  const SPANS = {
    900: "15 minutes",
    3600: "1 hour",
    21600: "6 hours",
    86400: "24 hours",
    604800: "7 days",
    all: "all time",
  };

  const source = openSource();
  let state = read();
  let shown = null;
  let usual = "all"; // what the address leaves out
  let paused = false;
  let stale = false; // there is something new that is not shown
  let busy = false;
  let asking = 0;

  const main = h("main", { tabindex: "-1" });
  const heading = h("h1");
  const nav = h("nav", { "aria-label": "Pages" });
  const times = h("span.times");
  const services = choice("service", state.query.service, (service) => set({ service }));
  const status = h("button.status", { type: "button", onclick: pause });
  const error = h("div.alert", { role: "alert", hidden: true });
  const keys = h("dialog", keysHelp());

  /** The address: #/page/part/part?name=value */
  function read() {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [name = "", ...parts] = path.split("/").map(decodeURIComponent);
    const known = name in PAGES;
    return {
      name: known ? name : "",
      path: known ? parts : [],
      query: Object.fromEntries(new URLSearchParams(query)),
    };
  }

  function address(path, query) {
    const pairs = Object.entries(query).filter(
      ([, value]) => value !== null && value !== undefined && value !== "",
    );
    const text = new URLSearchParams(pairs).toString();
    return `#/${path}${text ? `?${text}` : ""}`;
  }

  const kept = () => Object.fromEntries(KEPT.map((name) => [name, state.query[name]]));

  /** Change the state of this page, in place. */
  function set(changes) {
    state.query = { ...state.query, ...changes };
    const path = [state.name, ...state.path].map(encodeURIComponent).join("/");
    history.replaceState(null, "", address(path, state.query));
    frame();
    load();
  }

  function asked() {
    const { last = usual, since, until, service } = state.query;
    const span = since ? { since, until } : last === "all" ? {} : { last };
    const own = PAGES[state.name].query?.(state.query, state.path) ?? {};
    const pairs = Object.entries({ ...span, service, ...own });
    return Object.fromEntries(
      pairs.filter(([, value]) => value !== undefined && value !== null && value !== ""),
    );
  }

  async function load() {
    const number = ++asking;
    const page = PAGES[state.name];
    try {
      const answer = await source.ask(page.asks, asked());
      if (number !== asking) return; // another page, or a newer question
      error.hidden = true;
      await show(page, answer);
      if (page.asksThen && shown) {
        const rest = await source.ask(page.asksThen, asked());
        if (number === asking) shown.complete(rest);
      }
    } catch (problem) {
      if (number !== asking) return;
      put(error, String(problem.message ?? problem));
      error.hidden = false;
    }
  }

  async function show(page, answer) {
    const isEmpty = page === overview && answer.operations.length === 0;
    if (isEmpty && (await empty())) return;
    if (shown === null) {
      shown = page.mount({
        source,
        query: state.query,
        path: state.path,
        set,
        link: (path, more = {}) => address(path, { ...kept(), ...more }),
        zoom: (from, to) => set({ since: from.toFixed(3), until: to.toFixed(3), last: null }),
      });
      put(main, shown.element);
    }
    shown.update(answer);
    charts.sweep();
    main.dataset.ready = state.name || "overview";
  }

  /** What to say where there is no request; false where the page can say it itself. */
  async function empty() {
    const known = await source.ask("state");
    shown = null;
    const elsewhere = known.latest !== null;
    put(main, elsewhere ? nothingThen() : nothingYet(known));
    main.dataset.ready = "empty";
    return true;
  }

  function nothingThen() {
    return h(
      "div.empty",
      h("h2", "No request in this time"),
      h(
        "p",
        h(
          "a",
          { href: address("", { last: "all", service: state.query.service }) },
          "Show all time",
        ),
      ),
    );
  }

  function nothingYet(known) {
    const step = (title, code) => h("li", h("p", title), h("pre", code));
    return h(
      "div.empty",
      h("h2", "Nothing has been recorded yet"),
      h("p", "This page shows a call as soon as it is over."),
      h(
        "ol",
        step("In your program:", "import llmwatch\nllmwatch.instrument()"),
        step("Or without a change of its code:", "llmwatch run app.py"),
        step("Or just to see something:", "llmwatch demo"),
        known.listen
          ? step(
              "A program that sends OTLP elsewhere can send it here:",
              `OTEL_EXPORTER_OTLP_ENDPOINT=${known.listen}`,
            )
          : null,
      ),
      known.path ? h("p.quiet", "The store that is read: ", h("code", known.path)) : null,
    );
  }

  function frame() {
    document.title = `${PAGES[state.name].title} · llmwatch`;
    put(heading, PAGES[state.name].title);
    put(
      nav,
      TABS.map((name) => {
        const here = name === state.name || (name === "requests" && state.name === "request");
        return h(
          "a",
          { href: address(name, kept()), "aria-current": here ? "page" : null },
          PAGES[name].title,
        );
      }),
    );
    put(times, source.live ? timeControl() : null);
  }

  function timeControl() {
    const { last = usual, since, until } = state.query;
    if (since || until) {
      const said = `${format.when(Number(since))} to ${until ? format.clock(Number(until)) : "now"}`;
      return h(
        "button.chosen",
        {
          type: "button",
          title: "Back to the latest",
          onclick: () => set({ since: null, until: null }),
        },
        said,
        " ✕",
      );
    }
    const option = ([value, label]) => h("option", { value, selected: value === last }, label);
    const select = h(
      "select",
      {
        "aria-label": "time",
        onchange: () => set({ last: select.value === usual ? null : select.value }),
      },
      Object.entries(SPANS).map(option),
    );
    return select;
  }

  function pause() {
    paused = !paused;
    tellStatus(true);
    renew();
  }

  function offerServices(known) {
    services.offer(known.services);
    services.element.hidden = known.services.length < 2 || !source.live;
  }

  /** Something was written: show it, unless nobody looks; and rest for four times what it took. */
  async function renew() {
    stale = true;
    if (busy || paused || document.hidden) return;
    busy = true;
    while (stale && !paused && !document.hidden) {
      stale = false;
      const begun = performance.now();
      await load();
      await source.ask("state").then(offerServices, () => null); // what is wrong, `load` has told
      const took = performance.now() - begun;
      await new Promise((resolve) => setTimeout(resolve, 4 * took));
    }
    busy = false;
  }

  function tellStatus(connected) {
    const said = !connected
      ? ["off", "no server"]
      : paused
        ? ["paused", "paused"]
        : ["live", "live"];
    status.className = `status ${said[0]}`;
    status.setAttribute("aria-pressed", String(paused));
    status.title = paused ? "Go on" : "Hold the page as it is";
    put(status, h("i", { "aria-hidden": "true" }), said[1]);
  }

  function keysHelp() {
    const all = [
      ["1 … 5", "pages"],
      ["/", "filter"],
      ["j, k", "next and previous row"],
      ["Enter", "open"],
      ["u", "back to the requests"],
      ["p", "hold and go on"],
      ["← →", "walk through tokens, fold and unfold spans"],
      ["?", "this"],
    ];
    return [
      h("h2", "Keys"),
      h(
        "dl.keys",
        all.map(([key, what]) => h("div", h("dt", h("kbd", key)), h("dd", what))),
      ),
      h("form", { method: "dialog" }, h("button", "Close")),
    ];
  }

  function onkey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const go = (name) => {
      location.hash = address(name, kept());
    };
    const actions = {
      "/": () => main.querySelector("[data-first]")?.focus() ?? go("requests"),
      j: () => moveRow(1),
      k: () => moveRow(-1),
      u: () => go("requests"),
      p: () => source.live && pause(),
      "?": () => keys.showModal(),
    };
    TABS.forEach((name, index) => {
      actions[index + 1] = () => go(name);
    });
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  function moved() {
    const before = state;
    state = read();
    const same =
      before.name === state.name &&
      before.path.join("/") === state.path.join("/") &&
      JSON.stringify(before.query) === JSON.stringify(state.query);
    if (same && shown) return;
    shown = null;
    delete main.dataset.ready;
    if (before.name !== state.name) scrollTo(0, 0);
    frame();
    load();
  }

  /** The shortest span of time that has something in it. */
  function usualSpan(latest) {
    const age = latest === null ? 0 : Date.now() / 1000 - latest;
    return [900, 3600, 86400].find((span) => age < span)?.toString() ?? "all";
  }

  async function start() {
    const known = await source.ask("state");
    if (source.live) usual = usualSpan(known.latest);
    offerServices(known);
    document.body.prepend(
      h(
        "a.skip",
        { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) },
        "Skip to the content",
      ),
      h(
        "header.top",
        h(
          "a.brand",
          { href: "#/" },
          h(
            "span.mark",
            { "aria-hidden": "true" },
            [5, 9, 14, 7].map((height) => h("i", { style: { height: `${height}px` } })),
          ),
          "llmwatch",
        ),
        nav,
        h(
          "div.controls",
          services.element,
          times,
          source.live ? status : h("span.status.off", reportWords(known)),
        ),
      ),
      heading,
      error,
      main,
      keys,
    );
    frame();
    addEventListener("hashchange", moved);
    addEventListener("keydown", onkey);
    document.addEventListener("visibilitychange", () => stale && renew());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      shown = null; // charts are drawn in colours of the other scheme
      load();
    });
    tellStatus(true);
    source.listen(renew, (connected) => tellStatus(connected));
    await load();
  }

  function reportWords(known) {
    return known.written
      ? `report of ${format.day(known.written)} ${format.clock(known.written)}`
      : "report";
  }

  start().catch((problem) => {
    document.body.append(h("p.alert", String(problem.message ?? problem)));
  });
})();
