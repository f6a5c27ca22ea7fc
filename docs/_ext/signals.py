"""A Sphinx directive that writes tables of what llmwatch emits, from ``llmwatch.semconv`` itself.

In a page: a fenced block named ``{signals}`` with one word, the name of a function below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from llmwatch import semconv, semconv_hardware, semconv_layers, semconv_models, semconv_tasks
from llmwatch.semconv import CONVENTION_METRICS, OWN_METRICS, Metric


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay cells out as a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metrics_of(metrics: Iterable[Metric]) -> str:
    """One row a metric."""
    return table(
        ["name", "unit", "kind", "meaning"],
        (
            [f"`{each.name}`", f"`{each.unit}`", each.kind.replace("_", " "), each.description]
            for each in metrics
        ),
    )


def conventions_1_41() -> str:
    """Metrics under the default setting, ``semconv="1.41"``."""
    return metrics_of(CONVENTION_METRICS["1.41"].values())


def genai_0_1() -> str:
    """Metrics under ``semconv="genai-0.1"``."""
    return metrics_of(CONVENTION_METRICS["genai-0.1"].values())


def own_metrics() -> str:
    """Metrics for which no convention exists."""
    return metrics_of(OWN_METRICS.values())


def drift_metrics() -> str:
    """Metrics of drift monitors."""
    return metrics_of([*semconv.DRIFT_METRICS.values(), *semconv.DRIFT_HISTOGRAMS.values()])


def server_metrics() -> str:
    """Metrics of the conventions for models in this process."""
    return metrics_of(semconv_models.SERVER_METRICS.values())


def generation_metrics() -> str:
    """Metrics of local generation for which no convention exists."""
    return metrics_of(semconv_models.GENERATION_METRICS.values())


def generation_attributes() -> str:
    """Attributes of local generation."""
    return table(
        ["attribute", "meaning"],
        ([f"`{name}`", meaning] for name, meaning in semconv_models.ATTRIBUTES.items()),
    )


def task_metrics() -> str:
    """Metrics of what models of this process do beside generating."""
    return metrics_of(semconv_tasks.TASK_METRICS.values())


def task_attributes() -> str:
    """Attributes of pipelines, embeddings and continuous batching."""
    return table(
        ["attribute", "meaning"],
        ([f"`{name}`", meaning] for name, meaning in semconv_tasks.ATTRIBUTES.items()),
    )


def gpu_metrics() -> str:
    """Metrics of GPUs."""
    return metrics_of(semconv_hardware.GPU_METRICS.values())


def gpu_operation_metrics() -> str:
    """Metrics of what operations are charged for GPUs."""
    attributed = semconv_hardware.ATTRIBUTED_ENERGY
    return metrics_of([*semconv_hardware.OPERATION_METRICS.values(), attributed])


def gpu_peak_metrics() -> str:
    """Metrics of what happened between two readings of GPUs."""
    return metrics_of(semconv_hardware.PEAK_METRICS.values())


def torch_metrics() -> str:
    """Metrics of PyTorch's allocator."""
    return metrics_of(semconv_hardware.TORCH_METRICS.values())


def process_metrics() -> str:
    """Metrics of the process and its host."""
    return metrics_of(semconv_hardware.PROCESS_METRICS.values())


def layer_metrics() -> str:
    """Metrics of the layers of models."""
    findings = getattr(semconv_layers, "FINDING_METRICS", {})
    own = [semconv_layers.DURATION, *semconv_layers.LAYER_METRICS.values()]
    return metrics_of([*own, *findings.values()])


def layer_attributes() -> str:
    """Attributes of what is said about layers."""
    return table(
        ["attribute", "meaning"],
        ([f"`{name}`", meaning] for name, meaning in semconv_layers.ATTRIBUTES.items()),
    )


def hardware_attributes() -> str:
    """Attributes of metrics about the machine."""
    return table(
        ["attribute", "meaning"],
        ([f"`{name}`", meaning] for name, meaning in semconv_hardware.ATTRIBUTES.items()),
    )


def buckets() -> str:
    """Bucket bounds, and the histograms that have them."""
    every = [*CONVENTION_METRICS["1.41"].values(), *CONVENTION_METRICS["genai-0.1"].values()]
    by_bounds: dict[tuple[float, ...], list[str]] = {}
    own = [
        *OWN_METRICS.values(),
        *semconv_hardware.OPERATION_METRICS.values(),
        *semconv_models.SERVER_METRICS.values(),
        *semconv_models.GENERATION_METRICS.values(),
        *semconv_tasks.TASK_METRICS.values(),
    ]
    for metric in [*every, *own]:
        if metric.buckets:
            by_bounds.setdefault(metric.buckets, []).append(f"`{metric.name}`")
    return table(
        ["histograms", "upper bounds"],
        (
            [", ".join(names), " ".join(f"{bound:.15g}" for bound in bounds)]
            for bounds, names in by_bounds.items()
        ),
    )


def convention_attributes() -> str:
    """Attributes of the conventions."""
    return _attributes(own=False)


def own_attributes() -> str:
    """Attributes for which no convention exists."""
    return _attributes(own=True)


def _attributes(*, own: bool) -> str:
    return table(
        ["attribute", "meaning"],
        (
            [f"`{name}`", meaning]
            for name, meaning in semconv.ATTRIBUTES.items()
            if name.startswith("llmwatch.") == own
        ),
    )


def events() -> str:
    """Events."""
    return table(
        ["event", "meaning"],
        ([f"`{name}`", meaning] for name, meaning in semconv.EVENTS.items()),
    )


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        conventions_1_41,
        genai_0_1,
        own_metrics,
        drift_metrics,
        server_metrics,
        generation_metrics,
        generation_attributes,
        task_metrics,
        task_attributes,
        gpu_metrics,
        gpu_operation_metrics,
        gpu_peak_metrics,
        torch_metrics,
        process_metrics,
        layer_metrics,
        layer_attributes,
        hardware_attributes,
        buckets,
        convention_attributes,
        own_attributes,
        events,
    )
}


class Signals(SphinxDirective):
    """The table that the one argument names."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table as a part of the page."""
        self.env.note_dependency(semconv.__file__)
        self.env.note_dependency(semconv_hardware.__file__)
        self.env.note_dependency(semconv_models.__file__)
        self.env.note_dependency(semconv_tasks.__file__)
        return self.parse_text_to_nodes(TABLES[self.arguments[0]]())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("signals", Signals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
