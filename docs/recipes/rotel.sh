# rotel: take OTLP, drop prompts and answers, send on. Keys stay here, out of the programs.
rotel-agent start \
  --otlp-grpc-endpoint localhost:4317 --otlp-http-endpoint localhost:4318 \
  --otlp-with-trace-processor rotel_redact.py --otlp-with-logs-processor rotel_redact.py \
  --otel-resource-attributes deployment.environment.name=production \
  --exporter otlp --otlp-exporter-protocol http \
  --otlp-exporter-endpoint https://otlp.example.com \
  --otlp-exporter-custom-headers "api-key=$API_KEY" \
  --otlp-exporter-retry-max-elapsed-time 300s
