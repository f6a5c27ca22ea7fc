"""OpenAI and compatible clients; `source.install` starts watching them."""
