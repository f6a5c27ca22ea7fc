"""Who is at the other end: provider name, host and port of a client's base URL."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

_BY_SUFFIX = (
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("api.openai.com", "openai"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("amazonaws.com", "aws.bedrock"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("openrouter.ai", "openrouter"),
    ("api.together.xyz", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
)
"""Host suffix to ``gen_ai.provider.name``: the conventions' value where they have one."""

_PORTS = {"https": 443, "http": 80, "wss": 443, "ws": 80}


class Server(NamedTuple):
    """The far end of a client."""

    provider: str
    address: str | None
    port: int | None


_servers: WeakKeyDictionary[Any, tuple[Any, Server]] = WeakKeyDictionary()
_latest: tuple[Any, Server] = (None, Server("", None, None))
"""The last answer, which most programs, with their one client, need again; and it is quicker."""


def server_of(client: Any) -> Server:
    """The far end of *client*, looked up once for each base URL it has had."""
    global _latest
    url = client._base_url
    latest = _latest
    if latest[0] is url:
        return latest[1]
    try:
        known = _servers.get(client)
    except TypeError:  # a subclass that cannot be hashed
        return parse(url)
    if known is None or known[0] is not url:
        _servers[client] = known = (url, parse(url))
    _latest = known
    return known[1]


def parse(url: Any) -> Server:
    """Read a URL object of httpx; an unknown host counts as ``openai``, whose API it speaks."""
    host = url.host or None
    provider = "openai"
    for suffix, name in _BY_SUFFIX:
        if host is not None and (host == suffix or host.endswith("." + suffix)):
            provider = name
            break
    else:
        if host is not None and host.endswith("-aiplatform.googleapis.com"):
            provider = "gcp.vertex_ai"
    return Server(provider, host, url.port or _PORTS.get(url.scheme))
