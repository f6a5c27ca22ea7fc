/* All operations by model and route, and what they did over time. */
"use strict";

const overview = {
  title: "Overview",
  asks: "overview",

  mount(page) {
    const zoom = page.zoom;
    const rate = charts.chart({
      title: "Requests per second",
      form: format.rate,
      lines: [
        { label: "all", color: "--series-1", bars: true },
        { label: "failed", color: "--bad", bars: true },
      ],
      zoom,
      sync: "overview",
    });
    const ttft = charts.chart({
      title: "Time to first chunk or token",
      form: format.seconds,
      lines: [
        { label: "p95", color: "--series-2", dots: true, gaps: true },
        { label: "p50", color: "--series-1", dots: true, gaps: true },
      ],
      zoom,
      sync: "overview",
    });
    const tokens = charts.chart({
      title: "Output tokens per second, of all requests",
      note: "Counted when their request had ended.",
      form: format.rate,
      lines: [{ label: "tokens/s", color: "--series-3", bars: true }],
      zoom,
      sync: "overview",
    });
    const tiles = h("div.tiles");
    const rows = table({ ...operations(page), label: "Operations by model and route" });
    const element = h(
      "div",
      tiles,
      h("div.charts", rate.element, ttft.element, tokens.element),
      h("section", h("h2", "Operations"), rows.element),
    );

    function update(answer) {
      const { moments } = answer;
      rate.set(moments.times, [moments.rates, moments.errors], moments.width);
      ttft.set(moments.times, [moments.ttft_p95, moments.ttft_p50], moments.width);
      tokens.set(moments.times, [moments.output_tokens], moments.width);
      put(tiles, totals(answer, page));
      rows.set(answer.operations);
    }

    return { element, update };
  },
};

function totals(answer, page) {
  const sum = (name) => {
    const known = answer.operations.map((row) => row[name]).filter((value) => value !== null);
    return known.length ? known.reduce((a, b) => a + b, 0) : null;
  };
  const count = sum("count") ?? 0;
  const errors = sum("errors") ?? 0;
  const alarms = answer.lights.filter((light) => light.alarm).length;
  const open = answer.findings.filter(
    (finding) => finding.cleared === null && !finding.kind.startsWith("drift"),
  ).length;
  const tile = (label, value, { href, mood, more } = {}) =>
    h(
      href ? "a.tile" : "div.tile",
      { href },
      h("span.label", label),
      h(`span.number${mood ? `.${mood}` : ""}`, value),
      more ? h("span.more", more) : null,
    );
  return [
    tile("Requests", format.count(count), { href: page.link("requests") }),
    tile("Failed", format.count(errors), {
      href: page.link("requests", { errors: "1" }),
      mood: errors ? "bad" : null,
      more: errors ? format.share(errors / count) : null,
    }),
    tile("Input tokens", format.number(sum("input_tokens"))),
    tile("Output tokens", format.number(sum("output_tokens"))),
    tile("Cost", format.dollars(sum("cost"))),
    answer.lights.length
      ? tile("Drift", alarms ? `${alarms} raised` : "none", {
          href: page.link("drift"),
          mood: alarms ? "bad" : "good",
        })
      : null,
    open
      ? tile("Layer findings", format.count(open), {
          href: page.link("layers"),
          mood: "warn",
        })
      : null,
  ];
}

function operations(page) {
  const pair = (row, name, form) => [
    form(row[`${name}_p50`]),
    h("span.second", form(row[`${name}_p95`])),
  ];
  const columns = [
    {
      name: "operation",
      label: "Operation",
      text: true,
      value: (row) => row.operation,
      cell: (row) => row.operation,
    },
    {
      name: "model",
      label: "Model",
      text: true,
      value: (row) => row.model,
      cell: (row) => row.model ?? UNKNOWN,
    },
    {
      name: "route",
      label: "Route",
      text: true,
      value: (row) => row.route,
      cell: (row) => row.route ?? UNKNOWN,
    },
    {
      name: "count",
      label: "Requests",
      value: (row) => row.count,
      cell: (row) => format.count(row.count),
    },
    {
      name: "rate",
      label: "Rate",
      below: "per s",
      value: (row) => row.rate,
      cell: (row) => format.rate(row.rate),
    },
    {
      name: "errors",
      label: "Failed",
      value: (row) => row.errors,
      cell: (row) => (row.errors ? h("span.bad", format.count(row.errors)) : h("span.quiet", "0")),
    },
    {
      name: "duration",
      label: "Duration",
      below: "p50 p95",
      value: (row) => row.duration_p50,
      cell: (row) => pair(row, "duration", format.seconds),
    },
    {
      name: "ttft",
      label: "TTFT",
      below: "p50 p95",
      help: "To the first chunk at a client, to the first token of a local model",
      value: (row) => row.ttft_p50,
      cell: (row) => pair(row, "ttft", format.seconds),
    },
    {
      name: "itl",
      label: "Gap",
      below: "p50 p95",
      help: "Between chunks or tokens: of the medians of requests, and of their 95th percentiles",
      value: (row) => row.itl_p50,
      cell: (row) => pair(row, "itl", format.seconds),
    },
    {
      name: "tokens_per_second",
      label: "Speed",
      below: "tokens/s",
      help: "Median of single requests",
      value: (row) => row.tokens_per_second,
      cell: (row) => format.rate(row.tokens_per_second),
    },
    {
      name: "tokens",
      label: "Tokens",
      below: "in → out",
      value: (row) => row.output_tokens,
      cell: (row) => `${format.number(row.input_tokens)} → ${format.number(row.output_tokens)}`,
    },
    {
      name: "cost",
      label: "Cost",
      value: (row) => row.cost,
      cell: (row) => format.dollars(row.cost),
    },
  ];
  return {
    columns,
    key: (row) => JSON.stringify([row.operation, row.model, row.route]),
    href: (row) =>
      page.link("requests", { operation: row.operation, model: row.model, route: row.route }),
    sort: page.query.sort ?? "-count",
    onsort: (sort) => page.set({ sort: sort === "-count" ? null : sort }),
  };
}
