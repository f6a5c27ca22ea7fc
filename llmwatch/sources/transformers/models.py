"""What a model is: its name, class, device, type and size."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from llmwatch import semconv_models as names
from llmwatch._guard import Foreign
from llmwatch.measure.naming import name_of


class Model(NamedTuple):
    """What of a model does not change."""

    name: str
    parameters: int | None


_known: WeakKeyDictionary[Any, Model] = WeakKeyDictionary()


def model_of(model: Any) -> Model:
    """What a model is called, and how large it is; counted once for each."""
    found = _known.get(model)
    if found is None:
        _known[model] = found = Model(_name(model), _parameters(model))
    return found


def describe(model: Any) -> dict[str, Any]:
    """Span attributes of the model, by full name."""
    found: dict[str, Any] = {names.MODEL_CLASS: type(model).__name__}
    if (parameters := model_of(model).parameters) is not None:
        found[names.MODEL_PARAMETERS] = parameters
    with Foreign():
        found[names.MODEL_DEVICE] = str(model.device)
        found[names.MODEL_DTYPE] = str(model.dtype).removeprefix("torch.")
    return found


def _name(model: Any) -> str:
    """Its name on the hub, or the last part of the path it was loaded from, or else its class."""
    origin = getattr(getattr(model, "config", None), "_name_or_path", None)
    return (name_of(origin) if isinstance(origin, str) else "") or type(model).__name__


def _parameters(model: Any) -> int | None:
    with Foreign():
        return int(model.num_parameters())
    return None
