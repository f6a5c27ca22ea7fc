"""Recording and alert rules for Prometheus, written from one file of values.

`llmwatch/dashboards/` holds what the values that are shipped give; `export` writes the same from
values of one's own. Names of metrics come from `semconv`, as exporters translate them.
"""
