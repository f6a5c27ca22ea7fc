/* GPUs, the process and its host over time. */
"use strict";

const MACHINE = [
  {
    title: "Utilisation",
    main: true,
    metrics: [
      "hw.gpu.utilization",
      "llmwatch.gpu.peak.utilization",
      "llmwatch.gpu.process.utilization",
    ],
    share: true,
  },
  {
    title: "Memory",
    main: true,
    metrics: ["hw.gpu.memory.usage", "hw.gpu.memory.limit", "llmwatch.gpu.process.memory.usage"],
  },
  {
    title: "Power",
    main: true,
    metrics: ["hw.power", "llmwatch.gpu.power.limit", "llmwatch.gpu.peak.power"],
  },
  { title: "Temperature", metrics: ["hw.temperature", "hw.temperature.limit"] },
  { title: "Clocks", metrics: ["llmwatch.gpu.clock.frequency", "llmwatch.gpu.clock.limit"] },
  { title: "Throttled", metrics: ["llmwatch.gpu.throttled"] },
  { title: "Memory traffic", metrics: ["llmwatch.gpu.memory.activity"], share: true },
  { title: "PCIe", metrics: ["hw.gpu.io", "llmwatch.gpu.pcie.throughput"] },
  { title: "NVLink", metrics: ["llmwatch.gpu.nvlink.io"] },
  { title: "Memory errors", metrics: ["hw.errors"] },
  {
    title: "PyTorch's memory",
    metrics: ["llmwatch.torch.memory.allocated", "llmwatch.torch.memory.reserved"],
  },
  {
    title: "CPU",
    main: true,
    metrics: ["process.cpu.utilization", "system.cpu.utilization"],
    share: true,
  },
  {
    title: "Memory",
    main: true,
    metrics: ["process.memory.usage", "system.memory.usage", "system.memory.limit"],
  },
  { title: "Event loop lag", metrics: ["llmwatch.process.event_loop.lag"] },
  { title: "Longest pause for garbage", metrics: ["llmwatch.process.gc.longest_pause"] },
  { title: "Time for garbage", metrics: ["llmwatch.process.gc.time"], share: true },
  { title: "Energy", metrics: ["hw.energy"] },
  { title: "Fan", metrics: ["hw.fan.speed_ratio"], share: true },
  { title: "Address space", metrics: ["process.memory.virtual"] },
  { title: "Context switches", metrics: ["process.context_switches"] },
  { title: "Garbage collections", metrics: ["cpython.gc.collections"] },
  { title: "Threads", metrics: ["process.thread.count"] },
  { title: "Open files", metrics: ["process.unix.file_descriptor.count"] },
];
/** Said elsewhere already, or of no use as a line. */
const LEFT_OUT = [
  "hw.gpu.memory.utilization",
  "llmwatch.gpu.performance_state",
  "process.cpu.time",
];
const SHORT_NAMES = {
  "hw.temperature.limit": "limit",
  "llmwatch.gpu.clock.limit": "limit",
  "hw.gpu.utilization": "GPU",
  "llmwatch.gpu.peak.utilization": "peak",
  "llmwatch.gpu.process.utilization": "this process",
  "hw.gpu.memory.usage": "in use",
  "hw.gpu.memory.limit": "there is",
  "llmwatch.gpu.process.memory.usage": "this process",
  "hw.power": "drawn",
  "llmwatch.gpu.power.limit": "limit",
  "llmwatch.gpu.peak.power": "peak",
  "llmwatch.torch.memory.allocated": "in tensors",
  "llmwatch.torch.memory.reserved": "reserved",
  "process.cpu.utilization": "process",
  "system.cpu.utilization": "machine",
  "process.memory.usage": "process",
  "system.memory.usage": "machine",
  "system.memory.limit": "there is",
};

const machine = {
  title: "Machine",
  asks: "machine",

  mount(page) {
    const element = h("div");
    let shape = null;
    let cards = null;

    function update(answer) {
      const lines = answer.series.filter((line) => line.times.length > 0);
      const now = JSON.stringify(lines.map((line) => [line.metric, line.attributes, line.service]));
      if (now === shape) {
        cards.set(lines);
        return;
      }
      shape = now;
      cards = machineGroups(lines, page);
      put(element, lines.length ? cards.element : noMachine());
    }

    return { element, update };
  },
};

function noMachine() {
  return h(
    "div.empty",
    h("h2", "Nothing is known of the machine"),
    h(
      "p",
      "GPUs are read where there is a driver, the process and its host where psutil is installed:",
    ),
    h("pre", "pip install 'llmwatch-otel[host]'"),
    h(
      "p",
      "They are read whenever metrics are collected: once a minute, or by ",
      h("code", "export_interval=5"),
      ".",
    ),
  );
}

/** What a line belongs to: one GPU, or one process and its host. */
function ownerOf(line) {
  const id = line.attributes["hw.id"];
  if (id !== undefined)
    return line.attributes["hw.name"] ? `${line.attributes["hw.name"]} ${id}` : `GPU ${id}`;
  return line.service || "Process";
}

/** A section a GPU or process, with its charts. */
function machineGroups(lines, page) {
  const owners = groups(lines, ownerOf);
  const first = ([, list]) => (list.some((line) => "hw.id" in line.attributes) ? 0 : 1);
  const sections = [...owners]
    .sort((a, b) => first(a) - first(b))
    .map(([owner, list]) => ({
      owner,
      cards: cardsOf(list, { zoom: page.zoom, sync: "machine" }),
    }));
  return {
    element: h(
      "div",
      sections.map(({ owner, cards }) => h("section", h("h2", owner), cards.element)),
    ),
    set(now) {
      const again = groups(now, ownerOf);
      sections.forEach(({ owner, cards }) => cards.set(again.get(owner)));
    },
  };
}

/** The charts of a request: those that have points while it ran. */
function machineCards(lines, options) {
  return cardsOf(lines, { ...options, height: 110 }).element;
}

function cardsOf(lines, options) {
  const known = new Set([...LEFT_OUT, ...MACHINE.flatMap((card) => card.metrics)]);
  const rest = [...new Set(lines.map((line) => line.metric))].filter(
    (metric) => !known.has(metric),
  );
  const asked = options.main
    ? MACHINE.filter((card) => card.main)
    : [...MACHINE, ...rest.map((metric) => ({ title: metric, metrics: [metric] }))];
  const cards = asked
    .map((card) => ({
      card,
      lines: lines.filter((line) => card.metrics.includes(line.metric)),
    }))
    .filter((each) => each.lines.length > 0);
  const flat = cards.filter(({ lines: mine }) =>
    mine.every((line) => line.values.every((value) => value === 0)),
  );
  const drawn = cards
    .filter((each) => !flat.includes(each))
    .map(({ card, lines: mine }) => ({ card, chart: machineChart(card, mine, options) }));
  const set = (now) => {
    drawn.forEach(({ card, chart }) => {
      const [times, columns] = charts.aligned(
        now.filter((line) => card.metrics.includes(line.metric)),
      );
      chart.set(times, columns);
    });
  };
  set(lines);
  const zero = flat.length
    ? h("p.note", `Always 0: ${flat.map(({ card }) => card.title).join(", ")}.`)
    : null;
  return {
    element: h(
      "div",
      h(
        "div.charts",
        drawn.map(({ chart }) => chart.element),
      ),
      zero,
    ),
    set,
  };
}

function machineChart(card, lines, options) {
  const unit = card.share ? "%" : lines[0].unit;
  const common =
    lines.length > 1 &&
    lines.every((line) => JSON.stringify(ways(line)) === JSON.stringify(ways(lines[0])));
  const label = (line) =>
    [
      SHORT_NAMES[line.metric] ?? (card.metrics.length > 1 ? line.metric.split(".").at(-1) : null),
      ...(common ? [] : ways(line)),
    ]
      .filter(Boolean)
      .join(" ") || card.title.toLowerCase();
  const limit = (line) => line.metric.endsWith("limit");
  return charts.chart({
    title: card.title,
    note: card.metrics.join("\n"),
    form: format.byUnit(unit),
    lines: lines.map((line) => ({
      label: label(line),
      dash: limit(line),
      area: lines.length === 1,
      dots: line.times.length < 40,
    })),
    y: card.share ? { min: 0, max: 1 } : { bytes: unit === "By" },
    zoom: options.zoom,
    sync: options.sync,
    height: options.height ?? 130,
    x: options.x,
    marks: options.marks,
    shading: options.shading,
  });
}

/** What tells a line from others of its metric and owner. */
const ways = (line) =>
  Object.entries(line.attributes)
    .filter(
      ([name]) =>
        !["hw.id", "hw.name", "hw.type", "hw.vendor", "hw.model", "hw.parent"].includes(name),
    )
    .map(([, value]) => String(value));
