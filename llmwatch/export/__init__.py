"""Where telemetry goes: the floor of the OpenTelemetry SDK.

`pipeline.Pipeline` is the entry: it chooses or builds the providers, follows the application's own
ones, survives a fork and flushes at the end of the process. Importing this package loads nothing.
"""
