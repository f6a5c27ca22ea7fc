/* When each token or chunk came: every gap is a block as wide as it lasted, its height on a log scale. */
"use strict";

const GAP_SCALE = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100];

/**
 * @param tokens seconds from the start, ascending
 * @param first what was waited for before the first one: seconds, or null
 * @param stalls how many gaps count as stalls; null: not known
 * @param duration of the request
 * @param word "chunk" or "step"
 */
function tokenTimeline({ tokens, stalls, duration, word }) {
  const gaps = tokens.map((at, index) => at - (index ? tokens[index - 1] : 0));
  const stalled = longest(gaps, stalls);
  const end = Math.max(duration, tokens.at(-1));
  const least = Math.min(...gaps.slice(1).filter((gap) => gap > 0), gaps[0] || 1);
  const bottom = [...GAP_SCALE].reverse().find((each) => each <= least) ?? GAP_SCALE[0];
  const top = GAP_SCALE.find((each) => each >= Math.max(...gaps)) ?? GAP_SCALE.at(-1);
  const height = 150;
  const margin = { left: 58, right: 8, top: 8, bottom: 32 };
  const inner = height - margin.top - margin.bottom;
  const said = h("span.values", { "aria-live": "polite" });
  const picture = s("svg", { height, width: "100%", tabindex: "0", role: "img" });
  const element = h(
    "figure.chart.tokens",
    h("figcaption", h("span.title", `Each ${word}, and the gap before it`), said),
    picture,
  );
  let at = null;
  let x = (time) => time;

  const y = (gap) => {
    const share = Math.log(Math.max(gap, bottom) / bottom) / Math.log(top / bottom);
    return margin.top + inner * (1 - Math.min(Math.max(share, 0), 1));
  };
  const kind = (index) => (index === 0 ? "wait" : stalled.has(index) ? "stall" : "gap");

  function block(index) {
    const left = x(index ? tokens[index - 1] : 0);
    const width = Math.max(x(tokens[index]) - left, 0.5);
    return `M${left.toFixed(2)} ${y(0)}V${y(gaps[index]).toFixed(2)}h${width.toFixed(2)}V${y(0)}Z`;
  }

  function draw() {
    const width = Math.max(picture.clientWidth, 160);
    x = (time) => margin.left + (time / end) * (width - margin.left - margin.right);
    const paths = { wait: "", gap: "", stall: "" };
    gaps.forEach((gap, index) => {
      paths[kind(index)] += block(index);
    });
    const lines = GAP_SCALE.filter((each) => each >= bottom && each <= top);
    put(
      picture,
      lines.map((each) => [
        s("line.grid", {
          x1: margin.left,
          x2: width - margin.right,
          y1: y(each),
          y2: y(each),
        }),
        s(
          "text.label",
          { x: margin.left - 8, y: y(each) + 4, "text-anchor": "end" },
          format.seconds(each),
        ),
      ]),
      Object.entries(paths).map(([name, d]) =>
        s(`path.${name}${width / tokens.length < 4 ? ".dense" : ""}`, { d }),
      ),
      s("path.arrivals", {
        d: tokens.map((time) => `M${x(time).toFixed(2)} ${height - margin.bottom + 2}v5`).join(""),
      }),
      roundSteps(end).map((each) =>
        s(
          "text.label",
          { x: x(each), y: height - 6, "text-anchor": each ? "middle" : "start" },
          format.seconds(each),
        ),
      ),
      [...stalled].map((index) =>
        s(
          "text.stalled",
          {
            x: (x(tokens[index - 1]) + x(tokens[index])) / 2,
            y: y(gaps[index]) + 14,
            "text-anchor": "middle",
          },
          format.seconds(gaps[index]),
        ),
      ),
      s("path.cursor"),
    );
    tell(at);
  }

  function tell(index) {
    at = index;
    picture.querySelector(".cursor").setAttribute("d", index === null ? "" : block(index));
    if (index === null) {
      put(said, summary());
      return;
    }
    const gap = index === 0 ? "waited" : stalled.has(index) ? "stall" : "gap";
    const part = (name, value) => h("span.value", `${name} `, h("b", value));
    put(
      said,
      part(word, `${index + 1} of ${tokens.length}`),
      part("at", format.seconds(tokens[index])),
      part(gap, format.seconds(gaps[index])),
    );
  }

  function summary() {
    const many = `${format.count(tokens.length)} ${word}s`;
    return [
      h("span.value", many),
      stalled.size
        ? h("span.value.bad", `${stalled.size} ${stalled.size === 1 ? "stall" : "stalls"}`)
        : null,
    ];
  }

  function nearest(event) {
    const time =
      ((event.clientX - picture.getBoundingClientRect().left - x(0)) / (x(end) - x(0))) * end;
    const index = tokens.findIndex((each) => each >= time);
    return index < 0 ? tokens.length - 1 : index;
  }

  picture.setAttribute(
    "aria-label",
    `${tokens.length} ${word}s over ${format.seconds(duration)}; arrow keys walk through them`,
  );
  picture.addEventListener("pointermove", (event) => tell(nearest(event)));
  picture.addEventListener("pointerleave", () => tell(null));
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tell(Math.min(Math.max((at ?? -1) + step, 0), tokens.length - 1));
  });
  new ResizeObserver(draw).observe(picture);
  return element;
}

/** Indices of the `many` longest gaps between two tokens. */
function longest(gaps, many) {
  const between = gaps.map((gap, index) => index).slice(1);
  between.sort((a, b) => gaps[b] - gaps[a]);
  return new Set(between.slice(0, many ?? 0));
}
