"""Embedding drift: do the vectors of now still come from where those of the reference came from?

A `Reference` is fitted once; a `State` sums up a window in a few kilobytes, and states merge; three
statistics of a window are turned into one p-value by a calibration that knows the reference's own
sampling error; a `Detector` makes verdicts of p-values. `DriftMonitor` ties them together.

Pure arithmetic on numpy: no OpenTelemetry, no model, and nothing is imported here, so that the
registry can be asked for monitors without loading numpy.
"""
