"""Drop prompts and answers from spans and events before they leave the collector."""

CONTENT = {
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
}


def process_spans(resource_spans):
    """Called by rotel with the spans of one resource."""
    for scope in resource_spans.scope_spans:
        for span in scope.spans:
            span.attributes = [each for each in span.attributes if each.key not in CONTENT]


def process_logs(resource_logs):
    """Called by rotel with the log records of one resource."""
    for scope in resource_logs.scope_logs:
        for record in scope.log_records:
            record.attributes = [each for each in record.attributes if each.key not in CONTENT]
