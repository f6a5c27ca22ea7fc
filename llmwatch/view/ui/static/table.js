/* A table whose head sorts it and whose rows can be opened. */
"use strict";

/**
 * @param columns {name, label, below?, help?, value(row), cell?(row), text?} each; `text` is aligned left
 * @param key names a row
 * @param href where a row leads
 * @param sort name of the column to sort by, with "-" before it from the largest; "" as given
 * @param onsort called with the new one
 * @returns {element, set(rows)}
 */
function table({ columns, key, href, sort = "", onsort, label }) {
  const heads = columns.map((column) => head(column));
  const body = h("tbody");
  const element = h(
    "div.scroll",
    h("table", { "aria-label": label }, h("thead", h("tr", heads)), body),
  );
  let rows = [];

  function head(column) {
    const words = [column.label, column.below ? h("span.below", column.below) : null];
    const button = h(
      "button",
      { type: "button", title: column.help ?? null, onclick: () => by(column) },
      words,
    );
    return h(
      `th${column.text ? ".text" : ""}`,
      { scope: "col", "data-name": column.name },
      onsort ? button : words,
    );
  }

  function by(column) {
    const first = column.text ? column.name : `-${column.name}`;
    const second = column.text ? `-${column.name}` : column.name;
    sort = sort === first ? second : first;
    onsort(sort);
    show();
  }

  function sorted() {
    const name = sort.replace(/^-/, "");
    const column = columns.find((each) => each.name === name);
    if (!column) return rows;
    const way = sort.startsWith("-") ? -1 : 1;
    // The unknown goes last, whichever way.
    const rank = (a, b) =>
      a === null || b === null ? (a === null) - (b === null) : way * (a < b ? -1 : a > b ? 1 : 0);
    return [...rows].sort((a, b) => rank(column.value(a) ?? null, column.value(b) ?? null));
  }

  function make(row) {
    const cells = columns.map((column, index) => {
      const said = column.cell(row);
      const inside = index === 0 && href ? h("a.open", { href: href(row) }, said) : said;
      const title = column.text && typeof said === "string" ? said : null;
      return h(`td${column.text ? ".text" : ""}.c-${column.name}`, { title }, inside);
    });
    return h("tr", cells);
  }

  function show() {
    heads.forEach((each) => {
      const name = each.dataset.name;
      if (sort === name) each.setAttribute("aria-sort", "ascending");
      else if (sort === `-${name}`) each.setAttribute("aria-sort", "descending");
      else each.removeAttribute("aria-sort");
    });
    keep(body, sorted(), key, make);
  }

  if (href) {
    body.addEventListener("click", (event) => {
      if (event.target.closest("a, button") || String(getSelection())) return;
      event.target.closest("tr")?.querySelector("a.open")?.click();
    });
  }

  function set(given) {
    rows = given;
    show();
  }

  return { element, set };
}

/** Move among the rows of the page's table: 1 down, -1 up. */
function moveRow(way) {
  const links = [...document.querySelectorAll("main a.open")];
  if (links.length === 0) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? 0 : Math.min(Math.max(at + way, 0), links.length - 1);
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
}
