/* Elements, made without HTML: whatever text comes from a program stays text. */
"use strict";

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element: h("a.link", {href, onclick}, "text", child, [children], null).
 * Properties that begin with "on" listen, `style` is an object, the rest are attributes.
 */
function h(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElement(tag || "div"), classes, rest);
}

/** The same in SVG. */
function s(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElementNS(SVG, tag), classes, rest);
}

function fill(element, classes, rest) {
  if (classes.length) element.classList.add(...classes);
  const [first] = rest;
  const hasProperties =
    first !== null &&
    typeof first === "object" &&
    !Array.isArray(first) &&
    !(first instanceof Node);
  if (hasProperties) setProperties(element, rest.shift());
  append(element, rest);
  return element;
}

function setProperties(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style")
      for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Put these in the place of all children. */
function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/**
 * Rows in the place of those before; one that says the same as before is kept, with its focus.
 * `key` names a row, `make` draws it.
 */
function keep(parent, rows, key, make) {
  const before = parent.kept ?? new Map();
  const now = new Map();
  rows.forEach((row, index) => {
    const wanted = key(row, index);
    const name = now.has(wanted) ? `${wanted} ${index}` : wanted;
    const said = JSON.stringify(row);
    const old = before.get(name);
    now.set(name, old?.said === said ? old : { said, element: make(row, index) });
    if (parent.kept && !old) now.get(name).element.classList.add("fresh");
  });
  const elements = [...now.values()].map((each) => each.element);
  elements.forEach((element, index) => {
    if (parent.children[index] !== element)
      parent.insertBefore(element, parent.children[index] ?? null);
  });
  while (parent.children.length > elements.length) parent.lastChild.remove();
  parent.kept = now;
}

/** A mark and a word: colour alone says nothing to some. */
function outcome(row) {
  const signs = { ok: ["✓", "ok"], error: ["✕", row.error ?? "error"], left: ["○", "left"] };
  const [sign, word] = signs[row.outcome];
  return h(
    `span.outcome.${row.outcome}`,
    { title: word },
    h("span.sign", { "aria-hidden": "true" }, sign),
    word,
  );
}

/** What to say where there is nothing. */
function nothing(...text) {
  return h("p.nothing", ...text);
}
