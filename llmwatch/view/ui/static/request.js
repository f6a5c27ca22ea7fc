/* One request: its trace, each of its tokens, the machine meanwhile, and all that is known of it. */
"use strict";

const request = {
  title: "Request",
  asks: "request",

  query: (query, [trace, span]) => ({ trace, span: span ?? "" }),

  mount(page) {
    const element = h("div");
    let shown = null;

    function update(answer) {
      const said = JSON.stringify(answer);
      if (said === shown) return; // a trace that did not grow stays as it was unfolded
      shown = said;
      put(element, answer === null ? missing(page) : drawn(answer, page));
    }

    return { element, update };
  },
};

function missing(page) {
  const [trace] = page.path;
  return h(
    "div.empty",
    h("h2", "This request is not here"),
    h(
      "p",
      page.source.live
        ? "The store no longer has it, or does not have it yet: a span is written when it has ended."
        : "The report holds its row, and no more of it.",
    ),
    h("p.mono", trace),
    h("p", h("a", { href: page.link("requests") }, "All requests")),
  );
}

function drawn(answer, page) {
  const { row, spans, logs } = answer;
  const own = spans.find((span) => span.id === row.span_id);
  document.title = `${row.operation} ${row.model ?? ""} · llmwatch`;
  const details = h("section.details", { "aria-live": "polite" });
  const choose = (span) => put(details, detailsOf(span, span.id === row.span_id));
  const fall = waterfall({ spans, own: row.span_id, onchoose: choose });
  choose(own);
  const content = contentOf(
    own,
    logs.filter((log) => log.span === row.span_id),
  );
  return [
    h(
      "div.crumbs",
      h("a", { href: page.link("requests") }, "Requests"),
      " / ",
      h("span.mono", row.trace_id.slice(0, 8)),
    ),
    h(
      "header.request",
      h("h2", row.operation, " ", h("b", row.model ?? own.name)),
      row.route ? h("span.chip", row.route) : null,
      outcome(row),
    ),
    facts(row, own),
    h("section", h("h3", "Trace"), fall.element),
    tokenSection(answer, own),
    machineSection(answer),
    content ? h("section", h("h3", "Messages"), messages(content)) : null,
    details,
    logs.length ? h("section", h("h3", "Logs and events"), h("div.logs", logs.map(logLine))) : null,
  ];
}

function facts(row, own) {
  const attribute = (name) => own.attributes[name];
  const all = [
    ["Began", format.when(row.start, { millis: true })],
    ["Duration", format.seconds(row.duration)],
    ["TTFT", format.seconds(row.ttft)],
    ["Gap p50", format.seconds(row.gap_p50)],
    ["Gap p95", format.seconds(row.gap_p95)],
    ["Tokens in → out", `${format.number(row.input_tokens)} → ${format.number(row.output_tokens)}`],
    ["Tokens/s", format.rate(row.token_rate)],
    ["Cost", format.dollars(row.cost)],
    ["Energy", attribute("llmwatch.gpu.energy.used"), (value) => `${format.number(value)} J`],
    ["Retries", attribute("llmwatch.client.retries"), format.count],
    ["Finished by", attribute("gen_ai.response.finish_reasons")?.join(", ")],
    ["Service", row.service],
  ];
  return h(
    "dl.facts",
    all
      .filter(
        ([, value]) =>
          value !== undefined && value !== UNKNOWN && value !== `${UNKNOWN} → ${UNKNOWN}`,
      )
      .map(([name, value, form]) => h("div", h("dt", name), h("dd", form ? form(value) : value))),
  );
}

function tokenSection({ row, tokens, spans }, own) {
  if (tokens.length === 0) {
    const streamed = row.ttft !== null;
    return streamed
      ? h(
          "section",
          h("h3", "Tokens"),
          nothing(
            "When each one came was not recorded: ",
            h("code", "llmwatch.instrument(timeline=True)"),
            " does that.",
          ),
        )
      : null;
  }
  const local =
    "llmwatch.generation.timeline" in own.attributes ||
    row.ttft === own.attributes["llmwatch.generation.time_to_first_token"];
  const counted = own.attributes["llmwatch.stream.stalls"];
  const gaps = tokens.slice(1).map((at, index) => at - tokens[index]);
  const stalls = counted ?? gaps.filter((gap) => gap > 1).length;
  return h(
    "section",
    h("h3", "Tokens"),
    tokenTimeline({ tokens, stalls, duration: row.duration, word: local ? "step" : "chunk" }),
  );
}

function machineSection({ row, machine }) {
  const lines = machine.filter((line) => line.times.length > 0);
  if (lines.length === 0) return null;
  return h(
    "section",
    h("h3", "The machine meanwhile"),
    machineCards(lines, {
      x: { form: format.seconds },
      marks: [{ from: 0, to: row.duration }],
      shading: "--accent",
      main: true,
    }),
  );
}

function detailsOf(span, own) {
  const attributes = Object.entries(span.attributes).filter(([name]) => !(name in CONTENT));
  return [
    h("h3", own ? "Attributes" : `Attributes of ${span.name}`),
    h(
      "div.columns",
      list(attributes),
      h("div", h("h4", "Resource"), list(Object.entries(span.resource)), eventsOf(span)),
    ),
  ];
}

function list(pairs) {
  return h(
    "dl.attributes",
    pairs
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([name, value]) =>
        h(
          "div",
          h("dt", name),
          h("dd", typeof value === "string" ? value : short(JSON.stringify(value))),
        ),
      ),
  );
}

const short = (text) =>
  text.length > 300 ? `${text.slice(0, 300)} … (${format.count(text.length)} characters)` : text;

function eventsOf(span) {
  const said = span.message ? h("p.bad", span.message) : null;
  if (span.events.length === 0) return said;
  return [
    said,
    h("h4", "Events of the span"),
    span.events.map((event) =>
      h(
        "details",
        h("summary", `${event.name} `, h("span.quiet", `at ${format.seconds(event.at)}`)),
        list(Object.entries(event.attributes)),
      ),
    ),
  ];
}

function logLine(log) {
  const level = log.severity >= 17 ? "bad" : log.severity >= 13 ? "warn" : "quiet";
  const said =
    log.body === null ? "" : typeof log.body === "string" ? log.body : JSON.stringify(log.body);
  const attributes = Object.entries(log.attributes).filter(([name]) => !(name in CONTENT));
  return h(
    "details",
    h(
      "summary",
      h("span.mono.quiet", `${log.at < 0 ? "" : "+"}${format.seconds(log.at)} `),
      h(`span.${level}`, log.name || "log"),
      " ",
      said,
    ),
    list(attributes),
  );
}
