/* The latest requests, filtered. */
"use strict";

/** Rows at first, and at most: the server gives no more. */
const LIMITS = [200, 2000];

const requests = {
  title: "Requests",
  asks: "requests",
  asksThen: "choices",

  query: ({ text, operation, model, route, errors, limit }) => ({
    text,
    operation,
    model,
    route,
    errors,
    limit,
  }),

  mount(page) {
    const { query } = page;
    const text = h("input", {
      type: "search",
      placeholder: "Filter by model, route, error, id",
      "aria-label": "Filter by text",
      "data-first": true,
      value: query.text ?? "",
      oninput: later(() => page.set({ text: text.value || null })),
    });
    const selects = ["operation", "model", "route"].map((name) =>
      choice(name, query[name], (value) => page.set({ [name]: value })),
    );
    const errors = h("input", {
      type: "checkbox",
      checked: query.errors === "1",
      onchange: () => page.set({ errors: errors.checked ? "1" : null }),
    });
    const note = h("span.count", { role: "status" });
    const rows = table({ ...requestTable(page), label: "Requests, latest first" });
    const more = h("button.more", {
      type: "button",
      onclick: () => page.set({ limit: LIMITS[1] }),
    });
    put(more, `Show ${format.count(LIMITS[1])}`);
    const element = h(
      "div",
      h(
        "div.filters",
        { role: "search" },
        text,
        selects.map((each) => each.element),
        h("label.check", errors, "failed only"),
        note,
      ),
      rows.element,
      more,
    );

    let many = 0;

    function update(answer) {
      many = answer.requests.length;
      rows.set(answer.requests);
      more.hidden = !page.source.live || many !== LIMITS[0];
    }

    function complete(answer) {
      selects.forEach((each) => each.offer(answer.choices[each.name]));
      put(note, `${format.count(many)} shown, ${format.count(answer.count)} in all`);
    }

    return { element, update, complete };
  },
};

/** A choice among values that may not be known yet. */
function choice(name, chosen, onchoose) {
  const select = h("select", {
    "aria-label": name,
    onchange: () => onchoose(select.value || null),
  });
  let offered = null;

  function offer(values) {
    const all = chosen && !values.includes(chosen) ? [chosen, ...values] : values;
    const said = JSON.stringify(all);
    if (said === offered) return;
    offered = said;
    const option = (value, label) =>
      h("option", { value, selected: value === (chosen ?? "") }, label);
    put(
      select,
      option("", `any ${name}`),
      all.map((value) => option(value, value)),
    );
  }

  select.addEventListener("change", () => {
    chosen = select.value || null;
  });
  offer([]);
  return { name, element: select, offer };
}

/** Once the typing stops. */
function later(call, milliseconds = 200) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
}

function requestTable(page) {
  const columns = [
    {
      name: "start",
      label: "Began",
      text: true,
      value: (row) => row.start,
      cell: (row) => format.when(row.start, { millis: true }),
    },
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
      name: "outcome",
      label: "Outcome",
      text: true,
      value: (row) => row.error ?? row.outcome,
      cell: outcome,
    },
    {
      name: "duration",
      label: "Duration",
      value: (row) => row.duration,
      cell: (row) => format.seconds(row.duration),
    },
    {
      name: "ttft",
      label: "TTFT",
      help: "To the first chunk at a client, to the first token of a local model",
      value: (row) => row.ttft,
      cell: (row) => format.seconds(row.ttft),
    },
    {
      name: "gap",
      label: "Gap",
      below: "p50 p95",
      help: "Between chunks or tokens",
      value: (row) => row.gap_p50,
      cell: (row) => [format.seconds(row.gap_p50), h("span.second", format.seconds(row.gap_p95))],
    },
    {
      name: "tokens",
      label: "Tokens",
      below: "in → out",
      value: (row) => row.output_tokens,
      cell: (row) => `${format.number(row.input_tokens)} → ${format.number(row.output_tokens)}`,
    },
    {
      name: "token_rate",
      label: "Speed",
      below: "tokens/s",
      value: (row) => row.token_rate,
      cell: (row) => format.rate(row.token_rate),
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
    key: (row) => `${row.trace_id}/${row.span_id}`,
    href: (row) => page.link(`request/${row.trace_id}/${row.span_id}`),
    sort: page.query.sort ?? "-start",
    onsort: (sort) => page.set({ sort: sort === "-start" ? null : sort }),
  };
}
