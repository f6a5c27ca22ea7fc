"""A local OpenAI-compatible server with scripted timing, and the demo: ``python -m llmwatch.demo``.

The server answers like the API, so that llmwatch can be tried without a key and tested without a
network; it measures nothing but the moments at which it wrote.
"""
