/* The spans of a trace as a tree of bars over time; a request is split into its phases. */
"use strict";

const LAYER_PHASE = "llmwatch.layer.phase";
const SHOWN_AT_FIRST = 60;
const FOLDED_FROM = 12;

/** What a span's phases are: [{name, at, duration, kind}]; empty where its attributes do not say. */
function phasesOf(span) {
  const attribute = (name) => span.attributes[name];
  const prefill = attribute("llmwatch.generation.prefill.time");
  const token = attribute("llmwatch.generation.time_to_first_token");
  const chunk = attribute("gen_ai.response.time_to_first_chunk");
  if (token !== undefined) {
    const decode = attribute("llmwatch.generation.decode.time");
    const phases = [];
    if (prefill !== undefined)
      phases.push({
        name: "prefill",
        at: span.at + token - prefill,
        duration: prefill,
        kind: "wait",
      });
    if (decode !== undefined)
      phases.push({
        name: "decode",
        at: span.at + token,
        duration: Math.min(decode, span.duration - token),
        kind: "stream",
      });
    return phases;
  }
  if (chunk === undefined) return [];
  return [
    { name: "waiting for the first chunk", at: span.at, duration: chunk, kind: "wait" },
    { name: "streaming", at: span.at + chunk, duration: span.duration - chunk, kind: "stream" },
  ];
}

/** The tree: [{key, name, at, duration, kind, span, children}], by start. */
function treeOf(spans) {
  const nodes = new Map(spans.map((span) => [span.id, nodeOf(span)]));
  const roots = [];
  for (const node of nodes.values()) {
    const parent = nodes.get(node.span.parent);
    if (!parent || parent === node) roots.push(node);
    else (phaseFor(parent, node.span) ?? parent).children.push(node);
  }
  const order = (list) => {
    list.sort((a, b) => a.at - b.at || b.duration - a.duration);
    nest(list);
    list.forEach((each) => order(each.children));
  };
  order(roots);
  return roots;
}

function nodeOf(span) {
  const phases = phasesOf(span).map((phase) => ({
    ...phase,
    key: `${span.id}/${phase.name}`,
    span,
    phase: phase.name,
    children: [],
  }));
  const kind = LAYER_PHASE in span.attributes ? "layer" : span.status === 2 ? "failed" : "span";
  return {
    key: span.id,
    name: span.name,
    at: span.at,
    duration: span.duration,
    kind,
    span,
    children: phases,
  };
}

/** Phases with so many layers that they hide what follows. */
function tooMany(nodes) {
  return nodes.flatMap((node) => [
    ...(node.phase && node.children.length > FOLDED_FROM ? [node] : []),
    ...tooMany(node.children),
  ]);
}

/** Layers that ran inside another one become its children; their spans do not say so. */
function nest(list) {
  const stack = [];
  const inside = (node, outer) =>
    node.name.startsWith(`${outer.name}.`) &&
    node.at >= outer.at &&
    node.at < outer.at + outer.duration;
  for (const node of [...list]) {
    if (node.kind !== "layer") continue;
    while (stack.length && !inside(node, stack.at(-1))) stack.pop();
    if (stack.length) {
      stack.at(-1).children.push(node);
      list.splice(list.indexOf(node), 1);
    }
    stack.push(node);
  }
}

function phaseFor(parent, span) {
  const phase = span.attributes[LAYER_PHASE];
  return phase === undefined ? undefined : parent.children.find((each) => each.phase === phase);
}

/**
 * @param spans of the trace
 * @param own id of the request's own span
 * @param onchoose called with a span and, where one was chosen, the name of its phase
 */
function waterfall({ spans, own, onchoose }) {
  const roots = treeOf(spans);
  const from = Math.min(...spans.map((span) => span.at), 0);
  const to = Math.max(...spans.map((span) => span.at + span.duration));
  const length = to - from || 1e-9;
  const closed = new Set(tooMany(roots).map((node) => node.key));
  const body = h("div.rows", { role: "tree", "aria-label": "Spans of the trace" });
  let most = SHOWN_AT_FIRST;
  let chosen = own;

  const percent = (value) => `${(value * 100).toFixed(4)}%`;

  function bar(node) {
    const left = (node.at - from) / length;
    const width = node.duration / length;
    const label = format.seconds(node.duration);
    const outside = left + width > 0.85 && left > 0.15;
    return h(
      "div.lane",
      h(`div.bar.${node.kind}`, { style: { left: percent(left), width: percent(width) } }),
      node.span.events.map((event) =>
        h("i.event", {
          title: event.name,
          style: { left: percent((event.at - from) / length) },
        }),
      ),
      h(
        `span.length${outside ? ".before" : ""}`,
        { style: outside ? { right: percent(1 - left) } : { left: percent(left + width) } },
        label,
      ),
    );
  }

  function row(node, depth) {
    const open = !closed.has(node.key);
    const turn = node.children.length
      ? h(
          "button.turn",
          {
            type: "button",
            tabindex: "-1",
            "aria-label": open ? "fold" : "unfold",
            onclick: (event) => toggle(event, node),
          },
          open ? "▾" : "▸",
        )
      : h("span.turn");
    return h(
      `div.row${node.key === chosen ? ".chosen" : ""}`,
      {
        role: "treeitem",
        tabindex: node.key === chosen ? "0" : "-1",
        "aria-level": depth + 1,
        "aria-expanded": node.children.length ? String(open) : null,
        "aria-selected": String(node.key === chosen),
        "data-key": node.key,
        onclick: () => choose(node),
        onkeydown: (event) => key(event, node),
      },
      h(
        "div.name",
        { style: { "padding-left": `${depth * 14}px` }, title: node.name },
        turn,
        node.name,
        open ? null : h("span.quiet", ` · ${node.children.length} in it`),
      ),
      bar(node),
    );
  }

  function toggle(event, node) {
    event.stopPropagation();
    if (!closed.delete(node.key)) closed.add(node.key);
    show();
  }

  function choose(node) {
    chosen = node.key;
    show();
    body.querySelector(".chosen")?.focus({ preventScroll: true });
    onchoose(node.span, node.phase);
  }

  function key(event, node) {
    const rows = [...body.querySelectorAll(".row")];
    const at = rows.indexOf(event.currentTarget);
    const keys = {
      ArrowDown: () => rows[at + 1]?.click(),
      ArrowUp: () => rows[at - 1]?.click(),
      ArrowLeft: () => !closed.has(node.key) && node.children.length && toggle(event, node),
      ArrowRight: () => closed.has(node.key) && toggle(event, node),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    body.querySelector(".chosen")?.focus({ preventScroll: false });
  }

  function show() {
    const rows = [];
    let all = 0;
    const visit = (node, depth) => {
      all += 1;
      if (rows.length < most) rows.push(row(node, depth));
      if (!closed.has(node.key)) node.children.forEach((child) => visit(child, depth + 1));
    };
    roots.forEach((root) => visit(root, 0));
    const rest = all - rows.length;
    const more = () => {
      most *= 5;
      show();
    };
    put(
      body,
      rows,
      rest > 0
        ? h(
            "button.more",
            { type: "button", onclick: more },
            `Show ${Math.min(rest, most * 4)} of ${rest} more`,
          )
        : null,
    );
  }

  show();
  const scale = h("div.row.scale", h("div.name"), h("div.lane", timeScale(from, to)));
  return { element: h("div.waterfall", scale, body), from, to };
}

/** Round times from the first span on, as labels at their places. */
function timeScale(from, to) {
  return roundSteps(to - from).map((step) =>
    h("span.tick", { style: { left: `${(step / (to - from)) * 100}%` } }, format.seconds(step)),
  );
}

/** Some round numbers from 0 to below `length`. */
function roundSteps(length, many = 5) {
  const rough = length / many;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  return Array.from({ length: Math.ceil(length / step - 1e-9) }, (_, index) => index * step);
}
