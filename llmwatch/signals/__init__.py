"""Records become spans, metrics and events. The only floor that speaks the OpenTelemetry API."""
