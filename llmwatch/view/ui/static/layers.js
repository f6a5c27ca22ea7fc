/* The layers of local models: a heat map of their times, and what was found in them. */
"use strict";

const layers = {
  title: "Layers",
  asks: "layers",

  mount(page) {
    const element = h("div");
    let shown = null;

    function update(answer) {
      const said = JSON.stringify(answer);
      if (said === shown) return;
      shown = said;
      const models = groups(answer.cells, (cell) => JSON.stringify([cell.service, cell.model]));
      put(
        element,
        answer.cells.length ? [...models.values()].map(heatMaps) : noLayers(),
        findingsSection(answer.findings, "Findings"),
      );
    }

    return { element, update };
  },
};

function noLayers() {
  return h(
    "div.empty",
    h("h2", "No layer has been watched"),
    h("p", "For models that transformers loads:"),
    h("pre", "llmwatch.instrument(layers=True)"),
    h("p", "For any PyTorch model:"),
    h("pre", "llmwatch.watch_layers(model)"),
  );
}

function groups(items, key) {
  const found = new Map();
  for (const item of items) {
    const name = key(item);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(item);
  }
  return found;
}

/** What a layer is called inside its block: the block itself by its class. */
function partOf(cell) {
  if (cell.block === null) return cell.layer;
  const names = cell.layer.split(".");
  const inside = names.slice(names.lastIndexOf(String(cell.block)) + 1);
  return inside.join(".") || cell.layer_type;
}

const PHASES = ["prefill", "decode", "forward", "backward"];

function heatMaps(cells) {
  const { model, service } = cells[0];
  const placed = cells.map((cell) => ({ ...cell, part: partOf(cell) }));
  const inBlocks = placed.filter((cell) => cell.block !== null);
  const others = placed.filter((cell) => cell.block === null);
  const devices = [...new Set(cells.map((cell) => cell.device).filter(Boolean))];
  return h(
    "section.model",
    h(
      "h2",
      model ? model.split("/").at(-1) : service,
      h("span.quiet", ` ${[model ? service : null, ...devices].filter(Boolean).join(" · ")}`),
    ),
    inBlocks.length ? blockMap(inBlocks) : null,
    others.length ? otherMap(others, inBlocks.length > 0) : null,
  );
}

/** Blocks from left to right; the parts of a block, by phase, from top to bottom. */
function blockMap(cells) {
  const blocks = [...new Set(cells.map((cell) => cell.block))].sort((a, b) => a - b);
  const rows = [];
  for (const phase of phasesIn(cells)) {
    const of = cells.filter((cell) => cell.phase === phase);
    const parts = [...groups(of, (cell) => cell.part)];
    const most = Math.max(...of.map((cell) => cell.mean));
    parts.sort(([, a], [, b]) => total(b) - total(a));
    parts.forEach(([part, list], index) => {
      const at = new Map(list.map((cell) => [cell.block, cell]));
      const millis = Math.max(...list.map((cell) => cell.mean)) >= 0.001;
      rows.push({
        phase: index === 0 ? phase : null,
        span: parts.length,
        part,
        most,
        at,
        millis,
      });
    });
  }
  return h(
    "div.scroll",
    h(
      "table.heat.blocks",
      h(
        "caption",
        "Mean time of one pass through each layer, by block; its colour is its share of the longest in its phase",
      ),
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Phase"),
          h("th", { scope: "col" }, "Layer"),
          blocks.map((block) => h("th", { scope: "col" }, String(block))),
        ),
      ),
      h(
        "tbody",
        rows.map((row) =>
          h(
            `tr${row.phase ? ".first" : ""}`,
            row.phase ? h("th.phase", { scope: "rowgroup", rowspan: row.span }, row.phase) : null,
            h(
              "th.part",
              { scope: "row", title: row.part },
              row.part,
              h("span.quiet", row.millis ? " ms" : " µs"),
            ),
            blocks.map((block) => heatCell(row.at.get(block), row.most, row.millis ? 1e3 : 1e6)),
          ),
        ),
      ),
    ),
  );
}

/** Layers that are no blocks, one a row; phases from left to right. */
function otherMap(cells, beside) {
  const phases = phasesIn(cells);
  const rows = [...groups(cells, (cell) => cell.part)];
  const most = new Map(
    phases.map((phase) => [
      phase,
      Math.max(
        ...cells
          .filter((cell) => cell.phase === phase && cell.part !== "(model)")
          .map((cell) => cell.mean),
        1e-9,
      ),
    ]),
  );
  rows.sort(([, a], [, b]) => total(b) - total(a));
  return h(
    "div.scroll",
    h(
      "table.heat",
      h(
        "caption",
        beside
          ? "Layers outside the blocks, and the whole model"
          : "Mean time of one pass through each layer",
      ),
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Layer"),
          h("th.text", { scope: "col" }, "Class"),
          phases.map((phase) => h("th", { scope: "col" }, phase)),
        ),
      ),
      h(
        "tbody",
        rows.map(([part, list]) =>
          h(
            "tr",
            h("th.part", { scope: "row", title: part }, part),
            h("td.text.quiet", list[0].layer_type),
            phases.map((phase) =>
              heatCell(
                list.find((cell) => cell.phase === phase),
                part === "(model)" ? Infinity : most.get(phase),
                null,
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

const phasesIn = (cells) =>
  [...new Set(cells.map((cell) => cell.phase))].sort(
    (a, b) => PHASES.indexOf(a) - PHASES.indexOf(b),
  );
const total = (cells) => cells.reduce((sum, cell) => sum + cell.mean, 0);

/** One cell; in `times` seconds where it is narrow. */
function heatCell(cell, most, times) {
  if (!cell) return h("td.cell.none");
  const heat = Math.min(cell.mean / most, 1);
  const told = [
    `${cell.layer} (${cell.layer_type})`,
    `${cell.phase}: ${format.seconds(cell.mean)} a pass, ${format.count(cell.count)} passes`,
    cell.share === null
      ? null
      : `${format.share(cell.share)} of the forward without the layers in it`,
  ];
  return h(
    `td.cell${heat > 0.55 ? ".dark" : ""}`,
    {
      style: { "--heat": `${(heat * 100).toFixed(1)}%` },
      title: told.filter(Boolean).join("\n"),
    },
    times
      ? brief(cell.mean * times)
      : [
          format.seconds(cell.mean),
          cell.share === null ? null : h("span.second", format.share(cell.share)),
        ],
  );
}

/** A number in as few characters as a narrow cell holds. */
const brief = (value) => value.toFixed(value < 9.95 ? 1 : 0);

function findingsSection(findings, title) {
  if (findings.length === 0) return null;
  return h("section", h("h2", title), h("div.findings", findings.map(finding)));
}

function finding(each) {
  const open = each.cleared === null;
  const times = open
    ? `since ${format.when(each.raised)}`
    : `${format.when(each.raised)} to ${format.when(each.cleared)}`;
  return h(
    `details.finding${open ? ".open" : ""}`,
    h(
      "summary",
      h(`span.${open ? "bad" : "good"}`, open ? "▲ raised" : "✓ cleared"),
      " ",
      h("b", each.text),
      " ",
      h("span.quiet", `${each.kind}, ${times}, ${each.service}`),
    ),
    list(Object.entries(each.attributes)),
  );
}
