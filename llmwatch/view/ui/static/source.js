/* Where answers come from: a server that is asked, or the data that a report carries. */
"use strict";

/** Asks the server, and is told when something was written. */
class ServerSource {
  live = true;

  async ask(name, query = {}) {
    const answer = await fetch(`api/${name}?${new URLSearchParams(query)}`);
    if (answer.status === 404) return null;
    if (!answer.ok)
      throw new Error((await answer.text()) || `${answer.status} ${answer.statusText}`);
    return answer.json();
  }

  /** Call `changed` when something was written, and `connected` with whether the server is there. */
  listen(changed, connected) {
    const news = new EventSource("api/news");
    let first = true;
    news.onmessage = () => {
      if (!first) changed();
      first = false;
    };
    news.onopen = () => connected(true);
    news.onerror = () => {
      connected(false);
      first = false; // what is told on coming back may be new
    };
  }
}

/** Answers from what stands in the file, and filters requests itself. */
class ReportSource {
  live = false;

  constructor(data) {
    this.data = data;
  }

  async ask(name, query = {}) {
    const { answers, details } = this.data;
    if (name === "request") {
      const of = (key) =>
        key.startsWith(query.span ? `${query.trace}/${query.span}` : `${query.trace}/`);
      return details[Object.keys(details).find(of)] ?? null;
    }
    if (name !== "requests") return answers[name];
    return {
      ...answers.requests,
      requests: answers.requests.requests.filter((row) => matches(row, query)),
    };
  }

  /** Whether there is more of a request than its row. */
  has(row) {
    return `${row.trace_id}/${row.span_id}` in this.data.details;
  }

  listen() {}
}

function matches(row, query) {
  const said = [row.operation, row.model, row.route, row.error, row.trace_id, row.span_id];
  const text = (query.text ?? "").toLowerCase();
  return (
    ["service", "operation", "model", "route"].every(
      (name) => !query[name] || row[name] === query[name],
    ) &&
    (query.errors !== "1" || row.outcome === "error") &&
    (!query.since || row.start >= Number(query.since)) &&
    (!query.until || row.start < Number(query.until)) &&
    (!text || said.some((each) => each?.toLowerCase().includes(text)))
  );
}

function openSource() {
  const data = document.getElementById("data");
  return data ? new ReportSource(JSON.parse(data.textContent)) : new ServerSource();
}
