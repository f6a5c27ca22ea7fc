/* Numbers and times in few characters; a number that is not known is a dot. */
"use strict";

const UNKNOWN = "·";

const known = (form) => (value) => (value === null || value === undefined ? UNKNOWN : form(value));

const format = (() => {
  /** 210 µs, 9.5 ms, 21 ms, 1.12 s, 123 s, 12 min. */
  const seconds = known((value) => {
    const size = Math.abs(value);
    if (size === 0) return "0 s";
    if (size < 0.0009995) return `${(value * 1e6).toFixed(size < 0.00000995 ? 1 : 0)} µs`;
    if (size < 0.9995) return `${(value * 1e3).toFixed(size >= 0.00995 ? 0 : 1)} ms`;
    if (size >= 6000) return `${(value / 3600).toFixed(1)} h`;
    if (size >= 600) return `${(value / 60).toFixed(0)} min`;
    return `${value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0)} s`;
  });

  /** 4.6, 46, 46.2k. */
  const rate = known((value) => {
    if (value === 0) return "0";
    if (value < 0.095) return value.toPrecision(2);
    if (value < 9.95) return value.toFixed(1);
    return value < 9999.5 ? value.toFixed(0) : `${(value / 1e3).toPrecision(3)}k`;
  });

  const count = known((value) => Math.round(value).toLocaleString("en"));

  /** 0.00034; never in exponents. */
  const dollars = known((value) => {
    if (value > 0 && value < 1e-5) return "<$0.00001";
    const digits = value >= 0.1 || value <= 0 ? 2 : 1 - Math.floor(Math.log10(value));
    return `$${value.toFixed(Math.min(digits, 6))}`;
  });

  const bytes = known((value) => {
    let size = value;
    for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
      if (Math.abs(size) < 1000 || unit === "TiB") return `${Number(size.toPrecision(3))} ${unit}`;
      size /= 1024;
    }
    return "";
  });

  const share = known((value) => `${Number((value * 100).toPrecision(value < 0.1 ? 2 : 3))} %`);

  /** Any number: three digits, and a letter for thousands. */
  const number = known((value) => {
    let size = value;
    if (Math.abs(size) < 1e-3 && size !== 0)
      return size.toExponential(1).replace(".0e", "e").replace("e-", "e−");
    for (const unit of ["", "k", "M", "G", "T"]) {
      if (Math.abs(size) < 1000 || unit === "T") return `${Number(size.toPrecision(3))}${unit}`;
      size /= 1000;
    }
    return "";
  });

  /** What a metric's unit asks for. */
  const byUnit = (unit) => {
    const forms = { s: seconds, By: bytes, 1: number, "%": share, "{USD}": dollars };
    const words = { Cel: "°C", "J/s": "W" };
    if (forms[unit]) return forms[unit];
    if (unit === "By/s") return (value) => `${bytes(value)}/s`;
    const word = words[unit] ?? unit.replace(/\{.*?\}/g, "");
    return known((value) =>
      unit === "Hz"
        ? number(value).replace(/([kMG]?)$/, " $1Hz")
        : `${number(value)} ${word}`.trim(),
    );
  };

  const two = (value) => String(value).padStart(2, "0");

  /** 10:41:03, of today; else with its day before it. */
  const clock = (unix, { millis = false } = {}) => {
    const date = new Date(unix * 1000);
    const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
    return millis ? `${time}.${String(date.getMilliseconds()).padStart(3, "0")}` : time;
  };

  const day = (unix) => {
    const date = new Date(unix * 1000);
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  };

  const when = (unix, options) =>
    day(unix) === day(Date.now() / 1000)
      ? clock(unix, options)
      : `${day(unix)} ${clock(unix, options)}`;

  return { seconds, rate, count, dollars, bytes, share, number, byUnit, clock, day, when };
})();
