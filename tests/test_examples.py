"""Every example runs as it is, offline, and shows what its description promises."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fake_nvml import can_build

EXAMPLES = Path(__file__).parents[1] / "examples"

SHOWS = {
    "log_records.py": ["harbour: outside, trace 0, span 0", "harbour: asking, trace ", "Rain fell"],
    "chat.py": ["llmwatch chat gpt-4o-mini", "→30 tok", "Rain fell softly"],
    "streaming.py": ["gpt-4o-mini, exhausted:", "gpt-4o-mini, closed:", "gap.p95", "stalls"],
    "async_streams.py": ["Oslo      exhausted   32 chunks", "Valletta  cancelled"],
    "responses_with_tools.py": [
        "invoke_agent harbour guide",
        "  chat gpt-5-mini",
        "['get_weather']",
        "  execute_tool get_weather",
    ],
    "embeddings.py": ["3 texts, 1536 dimensions, 19 tokens", "operation.duration: 2 calls"],
    "content.py": ["Write to (address) when", "Dear guest, the ferry leaves at nine."],
    "gpu.py": ["J per token"],
    "volume.py": [
        "request 7 was kept: errors",
        "request 21 was kept: slow",
        "request 33 was kept: flagged",
        "counted:  60 calls",
    ],
    "layers.py": ["backward 1.3      TransformerEncoderLayer", "forward  (model)"],
    "layers_generate.py": [
        "prefill  model.layers.0",
        "decode   lm_head",
        "in text_completion tiny-llama",
    ],
    "layers_compiled.py": ["Block (compiled)", "blocks.3", "nothing was compiled again"],
    "layers_ranks.py": ["rank 0 of 2: ", "rank 1 of 2: ", "blocks.2 takes longest"],
    "drift.py": ["English\ndrift monitor", "(all): DRIFT", "English again"],
    "prometheus.py": ["token_usage_sum", "time_to_first_output_seconds_count 2.0", "cost_sum"],
    "existing_collector.py": ["OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"],
    "generate.py": ["usage.output_tokens              32", "gap.p95", "entropy"],
    "batch.py": ["generation.slots                 96", "'stop', 'length'", "padding.token_rate"],
    "assisted.py": ["generation.drafter               model", "accepted_tokens", "prompt_lookup"],
    "pipeline.py": ["llmwatch chat tiny-llama", "→36 tok", "  next: lamps along the quay\n"],
    "streamer_server.py": ["text_completion tiny-llama in GET /answer: 16 tokens"],
    "sentence_embeddings.py": ["(document): 60 texts in 4 batches", "61 of 2000 embeddings"],
    "receive.py": ["chat tiny: 3 calls, 90 tokens", "another program: 0."],
    "decorator.py": ["llmwatch text_completion tiny-lm", "failed: KeyError"],
}
"""What of its output tells that an example does what it is there for."""

MODELS = {
    "layers.py": "torch",
    "layers_compiled.py": "torch",
    "layers_ranks.py": "torch",
    "layers_generate.py": "transformers",
    "generate.py": "transformers",
    "batch.py": "transformers",
    "assisted.py": "transformers",
    "pipeline.py": "transformers",
    "streamer_server.py": "transformers",
    "sentence_embeddings.py": "sentence_transformers",
}
"""Those that run a model in their own process, and what runs it."""


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_runs_offline(name, tmp_path):
    """Warnings are errors there too, and nothing goes wrong inside llmwatch."""
    if name in MODELS and find_spec(MODELS[name]) is None:
        pytest.skip(f"needs {MODELS[name]}")
    if name == "gpu.py" and not can_build():
        pytest.skip("needs gcc and the package nvidia-nvml-dev")
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        env=_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "llmwatch failed" not in ran.stderr
    assert "Traceback" not in ran.stderr
    missing = [text for text in SHOWS[name] if text not in ran.stdout + ran.stderr]
    assert not missing, ran.stdout + ran.stderr


def test_the_list_of_examples_is_complete():
    """Whoever looks into the folder is told what each of them shows."""
    listed = (EXAMPLES / "README.md").read_text()
    files = {path.name for path in EXAMPLES.glob("[!_]*") if path.name != "README.md"}
    assert {name for name in files if f"({name})" not in listed} == set()


def _environment(folder: Path) -> dict[str, str]:
    """This process's, without what sends telemetry or requests elsewhere."""
    ours = ("OTEL_", "LLMWATCH_", "OPENAI_", "PYTHONWARNINGS")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "LLMWATCH_STRICT": "1",
        "OMP_NUM_THREADS": "1",  # on a busy machine, threads of one product wait for each other
        "LLMWATCH_STORE_PATH": str(folder / "store"),
        "TMPDIR": str(folder),
        "PYTHONIOENCODING": "utf-8",
    }
