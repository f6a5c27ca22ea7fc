/* Drift monitors: what each last said, its p-values over time, its alarms. */
"use strict";

const drift = {
  title: "Drift",
  asks: "drift",

  mount(page) {
    const element = h("div");
    let shown = null;

    function update(answer) {
      const said = JSON.stringify(answer);
      if (said === shown) return;
      shown = said;
      put(
        element,
        answer.lights.length
          ? answer.lights.map((light) => monitor(light, answer, page))
          : noDrift(),
      );
    }

    return { element, update };
  },
};

function noDrift() {
  return h(
    "div.empty",
    h("h2", "No drift monitor has spoken"),
    h("p", "Watch the embeddings that calls return:"),
    h("pre", "llmwatch.instrument(drift=True)"),
  );
}

const MONITOR = "llmwatch.drift.monitor";
const DRIFT_KEY = "llmwatch.drift.key";
const STATISTIC = "llmwatch.drift.statistic";

function monitor(light, answer, page) {
  const mine = (each) =>
    each.attributes[MONITOR] === light.monitor &&
    (each.attributes[DRIFT_KEY] ?? null) === light.key &&
    each.service === light.service;
  const findings = answer.findings.filter(mine);
  const lines = answer.series.filter(
    (line) => line.metric === "llmwatch.drift.p_value" && mine(line),
  );
  const name = [light.monitor, light.key].filter(Boolean).join(" · ");
  const facts = [
    ["p-value", light.p_value, format.number],
    ["Effect", light.effect, format.share],
    ["Centroid moved", light.centroid, format.share],
    ["Embeddings", light.embeddings, format.count],
    ["Model", light.model],
    ["Service", light.service],
    ["Last told", format.when(light.time)],
  ];
  return h(
    "section.monitor",
    h(
      "header",
      h(`span.lamp.${light.alarm ? "bad" : "good"}`, { "aria-hidden": "true" }),
      h("h2", name),
      h(`span.${light.alarm ? "bad" : "good"}`, light.alarm ? "drift raised" : "as the reference"),
    ),
    h(
      "dl.facts",
      facts
        .filter(([, value]) => value !== null)
        .map(([label, value, form]) =>
          h("div", h("dt", label), h("dd", form ? form(value) : value)),
        ),
    ),
    lines.length ? pValues(lines, findings, page) : null,
    findings.length ? h("div.findings", findings.map(finding)) : null,
  );
}

function pValues(lines, findings, page) {
  const drawn = charts.chart({
    title: "p-value of the latest window",
    note: "How likely a window so different would be if nothing had changed; alarms are shaded.",
    form: format.number,
    lines: lines.map((line) => ({
      label: line.attributes[STATISTIC] ?? "p",
      dots: true,
      dash: (line.attributes[STATISTIC] ?? "all") !== "all",
    })),
    y: { log: true },
    zoom: page.zoom,
    height: 180,
    marks: findings.map((each) => ({ from: each.raised, to: each.cleared })),
  });
  // A logarithm has no place for 0, which is what a p-value below the smallest number is told as.
  const [times, columns] = charts.aligned(
    lines.map((line) => ({
      ...line,
      values: line.values.map((value) => (value === null ? null : Math.max(value, 1e-16))),
    })),
  );
  drawn.set(times, columns);
  return drawn.element;
}
