/* What was said, where that was captured. Nothing in it is more than text, and nothing is loaded. */
"use strict";

const CONTENT = {
  "gen_ai.system_instructions": "instructions",
  "gen_ai.input.messages": "input",
  "gen_ai.output.messages": "output",
  "gen_ai.tool.definitions": "tools",
};

/** The content of a request: of its span, else of its events; null where there is none. */
function contentOf(span, logs) {
  const found = {};
  for (const attributes of [span.attributes, ...logs.map((log) => log.attributes)]) {
    for (const [name, short] of Object.entries(CONTENT)) {
      if (name in attributes) found[short] ??= parsed(attributes[name]);
    }
  }
  return Object.keys(found).length ? found : null;
}

function parsed(value) {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value; // as another instrumentation may have written it
  }
}

function messages(content) {
  const list = (value) => (Array.isArray(value) ? value : value === undefined ? [] : [value]);
  const said = [
    ...(content.instructions ? [{ role: "instructions", parts: list(content.instructions) }] : []),
    ...list(content.input),
    ...list(content.output).map((each) =>
      typeof each === "object" ? { answer: true, ...each } : each,
    ),
  ];
  const tools = list(content.tools);
  return h(
    "div.messages",
    said.map(message),
    tools.length
      ? h(
          "details",
          h("summary", `${tools.length} tools offered`),
          h("pre", JSON.stringify(tools, null, 2)),
        )
      : null,
  );
}

function message(each) {
  if (each === null || typeof each !== "object")
    return h("article.message", h("pre", String(each)));
  const role = String(each.role ?? "message");
  const parts = Array.isArray(each.parts) ? each.parts : [each.content ?? each];
  return h(
    `article.message${each.answer ? ".answer" : ""}`,
    h("header", role, each.finish_reason ? h("span.quiet", ` ${each.finish_reason}`) : null),
    parts.map(part),
  );
}

function part(each) {
  if (each === null || typeof each !== "object") return h("pre", String(each));
  const text = each.content ?? each.text;
  const written = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  if (each.type === "tool_call")
    return h(
      "div.call",
      h("b", String(each.name ?? "tool")),
      h("pre", written(each.arguments ?? {})),
    );
  if (each.type === "tool_call_response")
    return h("div.call", h("b", "result"), h("pre", written(each.response ?? each.result ?? "")));
  if (each.type === "reasoning") return h("div.reasoning", h("pre", written(text ?? each)));
  return h("pre", written(each.type === "text" && text !== undefined ? text : each));
}
