/* Lines and bars over time, drawn by uPlot in the colours of the page. */
"use strict";

const charts = (() => {
  /** Charts that stand on the page, and hold listeners that go with them. */
  const living = new Set();

  /** Let go of those that stand there no more. */
  function sweep() {
    for (const each of living) {
      if (each.plot.isConnected) continue;
      each.end();
      living.delete(each);
    }
  }

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** Eight colours, then the same again. */
  const ofSeries = (index) => color(`--series-${(index % 8) + 1}`);

  /** Ticks of a time axis: the day where it begins anew, seconds only where they matter. */
  function ticks(chart, splits, axis, space, step) {
    let before = null;
    return splits.map((unix) => {
      const day = format.day(unix);
      const fresh = before !== null && day !== before;
      before = day;
      if (step >= 86400 || fresh) return day.slice(5);
      return step >= 60 ? format.clock(unix).slice(0, 5) : format.clock(unix);
    });
  }

  /** Powers of ten, at most about five of them. */
  function powers(low, high) {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const step = Math.max(Math.ceil((last - first) / 4), 1);
    return Array.from(
      { length: Math.floor((last - first) / step) + 1 },
      (_, index) => 10 ** (last - index * step),
    ).reverse();
  }

  /** Ticks of an axis of seconds from the start of a request. */
  const offsets = (chart, splits) => splits.map((value) => format.seconds(value));

  function bars() {
    return uPlot.paths.bars({ size: [0.86, 64, 1], align: 1 });
  }

  function seriesOf(line, index) {
    const stroke = line.color ? color(line.color) : ofSeries(index);
    const drawn = line.bars
      ? { paths: bars(), fill: stroke, width: 0, points: { show: false } }
      : {
          width: 1.5,
          dash: line.dash ? [4, 4] : undefined,
          points: { show: line.dots ?? false, size: 4, fill: stroke },
        };
    if (line.steps) drawn.paths = uPlot.paths.stepped({ align: 1 });
    if (line.area) drawn.fill = `color-mix(in srgb, ${stroke} 14%, transparent)`;
    return {
      label: line.label,
      stroke,
      spanGaps: line.bars !== true && line.gaps !== true,
      ...drawn,
    };
  }

  /** From 0, or as the chart asks; never without height. */
  function range(asked, low, high) {
    if (asked.log) return uPlot.rangeLog(low ?? 1e-3, high ?? 1, 10, true);
    const top = asked.max ?? Math.max(high ?? 0, asked.least ?? 0);
    const bottom = asked.min ?? Math.min(low ?? 0, 0);
    return [
      bottom,
      top > bottom ? bottom + (top - bottom) * (asked.max === undefined ? 1.08 : 1) : bottom + 1,
    ];
  }

  /**
   * A titled chart.
   *
   * @param title what it shows
   * @param form writes a value
   * @param lines {label, color?, bars?, dash?, dots?, area?, steps?} each
   * @param y {min?, max?, log?, bytes?} of the vertical axis
   * @param zoom called with two times when a span of time is chosen
   * @param marks [{from, to}] spans of time to shade, in the color `shading`
   * @returns {element, set(times, values, width)}: an array of values a line; how long each stands for
   */
  function chart({
    title,
    note,
    form,
    lines,
    y = {},
    zoom,
    sync,
    height = 150,
    x = {},
    marks = [],
    shading = "--bad",
  }) {
    const values = h("span.values");
    const plot = h("div.plot");
    const element = h(
      "figure.chart",
      h("figcaption", h("span.title", { title: note ?? null }, title), values),
      plot,
    );
    let drawn = null;
    let data = null;
    let reach = 0; // seconds that the last value stands for

    function tell(index) {
      const latest = (column) =>
        index === null ? column.findLast((value) => value !== null) : column[index];
      const said = lines.map((line, number) =>
        h(
          "span.value",
          h("i", {
            style: {
              background: line.color ? `var(${line.color})` : `var(--series-${(number % 8) + 1})`,
            },
          }),
          `${line.label} `,
          h("b", form(latest(data[number + 1]))),
        ),
      );
      if (index !== null && x.form === undefined)
        said.unshift(h("span.value.time", format.clock(data[0][index])));
      if (index !== null && x.form !== undefined)
        said.unshift(h("span.value.time", x.form(data[0][index])));
      put(values, said);
    }

    function shade(chart) {
      chart.ctx.save();
      chart.ctx.fillStyle = `color-mix(in srgb, ${color(shading)} 14%, transparent)`;
      for (const { from, to } of marks) {
        const left = Math.max(chart.valToPos(from, "x", true), chart.bbox.left);
        const right = Math.min(
          to === null ? Infinity : chart.valToPos(to, "x", true),
          chart.bbox.left + chart.bbox.width,
        );
        if (right > left)
          chart.ctx.fillRect(left, chart.bbox.top, Math.max(right - left, 2), chart.bbox.height);
      }
      chart.ctx.restore();
    }

    function draw() {
      if (!plot.isConnected) return;
      const font = `11px ${color("--sans")}`;
      const axis = {
        stroke: color("--muted"),
        font,
        ticks: { show: false },
        grid: { stroke: color("--line"), width: 1 },
      };
      const options = {
        width: Math.max(plot.clientWidth, 120),
        height,
        padding: [8, 24, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          points: { size: 6 },
          drag: { x: zoom !== undefined, y: false, setScale: false },
          sync: sync ? { key: sync } : undefined,
        },
        scales: {
          x: {
            time: false,
            range: (chart, low, high) =>
              reach && low !== null ? [low, high + reach] : [low, high],
          },
          y: { distr: y.log ? 3 : 1, range: (chart, low, high) => range(y, low, high) },
        },
        axes: [
          {
            ...axis,
            grid: { show: false },
            size: 24,
            space: 72,
            values: x.form ? offsets : ticks,
            incrs: x.form ? undefined : STEPS,
          },
          {
            ...axis,
            ...steps(y),
            size: 58,
            space: 32,
            values: (chart, splits) => splits.map((each) => (each === null ? "" : form(each))),
          },
        ],
        series: [{}, ...lines.map(seriesOf)],
        hooks: {
          drawClear: [shade],
          setCursor: [(chart) => tell(chart.cursor.idx)],
          setSelect: [
            (chart) => {
              if (!zoom || chart.select.width < 4) return;
              const from = chart.posToVal(chart.select.left, "x");
              const to = chart.posToVal(chart.select.left + chart.select.width, "x");
              chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
              zoom(from, to);
            },
          ],
        },
      };
      drawn?.destroy();
      drawn = new uPlot(options, data, plot);
      tell(null);
    }

    const resized = new ResizeObserver(() =>
      drawn?.setSize({ width: Math.max(plot.clientWidth, 120), height }),
    );
    resized.observe(plot);

    function end() {
      resized.disconnect();
      drawn?.destroy();
    }

    living.add({ plot, end });

    function set(times, columns, width = 0) {
      data = [times, ...columns];
      reach = width;
      element.setAttribute(
        "aria-label",
        `${title}: ${lines.map((line) => line.label).join(", ")} over time`,
      );
      if (drawn === null) requestAnimationFrame(draw);
      else {
        drawn.setData(data);
        if (drawn.cursor.idx === null || drawn.cursor.idx === undefined) tell(null);
      }
    }

    return { element, set };
  }

  /** Where an axis of values has its ticks, if not where uPlot has them. */
  function steps(y) {
    if (y.log)
      return {
        splits: (chart, axis, low, high) => powers(low, high),
        filter: (chart, splits) => splits,
      };
    return y.bytes ? { incrs: BYTES } : {};
  }

  const BYTES = [0, 1, 2, 3, 4].flatMap((power) =>
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((each) => each * 1024 ** power),
  );
  const STEPS = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
    172800, 604800, 2592000,
  ];

  /** Lines with times of their own on one common axis. */
  function aligned(lines) {
    if (lines.length === 0) return [[], []];
    const [times, ...columns] = uPlot.join(lines.map((line) => [line.times, line.values]));
    return [times, columns];
  }

  return { chart, aligned, sweep, living };
})();
