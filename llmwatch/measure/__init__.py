"""Pure arithmetic on numbers and clock readings. Knows no OpenTelemetry, torch or openai."""
