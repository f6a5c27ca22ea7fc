"""Each finding appears where it should, at its threshold, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan

import pytest

from llmwatch.measure import findings
from llmwatch.measure.findings import Finding, find
from llmwatch.measure.health import Gradient, Health, Units
from llmwatch.measure.portrait import (
    ContextPoint,
    Drift,
    ForwardFacts,
    LayerFacts,
    Portrait,
    part_of_block,
    pattern,
    role,
)
from llmwatch.measure.roofline import Roof, place

ROOF = Roof("cpu", "float32", 100e9, 20e9, 0.0, 0.0)


def layer(name: str = "h.0.mlp", **given: object) -> LayerFacts:
    known: dict[str, object] = {
        "type": "MLP",
        "block": 0,
        "role": "mlp",
        "phase": "prefill",
        "order": 0,
        "seconds": 0.01,
        "share": 0.1,
        "calls": 1.0,
    }
    return LayerFacts(name, **(known | given))  # type: ignore[arg-type]


def health(block: int | None = 0, **given: object) -> Health:
    known: dict[str, object] = {
        "order": block or 0,
        "forwards": 10,
        "tokens": 1000,
        "dtype": "float16",
        "limit": 65504.0,
        "rms": 1.0,
        "typical": 1.0,
        "abs_max": 5.0,
        "nan": 0,
        "inf": 0,
        "broken": 0,
        "first_broken": 0,
        "cosine": 0.9,
        "change": 0.4,
    }
    return Health(f"h.{block}", block, **(known | given))  # type: ignore[arg-type]


def only(portrait: Portrait) -> Finding:
    (finding,) = find(portrait)
    assert json.dumps(finding.to_dict())
    assert finding.text
    return finding


def test_nothing_is_found_where_nothing_is_known():
    assert find(Portrait("m")) == ()


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "flops", "found"),
    [
        (0.12, 0.01, True),
        (0.12, 0.06, True),
        (0.12, 0.07, False),
        (0.04, 0.01, False),
        (0.5, 0.3, False),
    ],
)
def test_time_beyond_flops_is_found_for_siblings_together(share, flops, found):
    group = tuple(
        layer(f"h.{block}.norm", block=block, share=share / 4, flops_share=flops / 4)
        for block in range(4)
    )
    if not found:
        assert find(Portrait("m", group)) == ()
        return
    finding = only(Portrait("m", group))
    assert (finding.kind, finding.layer, finding.phase) == (
        "time_beyond_flops",
        "h.*.norm",
        "prefill",
    )
    assert finding.value == pytest.approx(share)
    assert finding.evidence["layers"] == 4


@pytest.mark.parametrize(
    ("share", "moved", "found"), [(0.12, 0.06, True), (0.12, 0.07, False), (0.12, None, False)]
)
def test_layers_without_flops_are_measured_by_their_bytes(share, moved, found):
    """A norm does no products: that it takes more than 0 % of the time says nothing."""
    each = None if moved is None else moved / 4
    group = tuple(
        layer(f"h.{at}.norm", block=at, share=share / 4, flops_share=0.0, bytes_share=each)
        for at in range(4)
    )
    if not found:
        assert find(Portrait("m", group)) == ()
        return
    finding = only(Portrait("m", group))
    assert (finding.kind, finding.layer) == ("time_beyond_bytes", "h.*.norm")
    assert finding.value >= finding.threshold
    assert finding.text == "h.*.norm takes 12% of prefill time for no FLOPs and 6.0% of the bytes"
    assert finding.evidence["bytes_share"] == pytest.approx(moved)


def test_without_flops_nothing_is_said_of_them():
    assert find(Portrait("m", (layer(share=0.9),))) == ()


@pytest.mark.parametrize(("seconds", "found"), [(0.0149, False), (0.016, True), (0.05, True)])
def test_an_outlier_takes_half_as_long_again_as_its_siblings(seconds, found):
    times = [0.0101, 0.0099, 0.01, 0.0102, seconds]
    group = tuple(
        layer(f"h.{at}", block=at, seconds=each, share=each / sum(times))
        for at, each in enumerate(times)
    )
    kinds = [(each.kind, each.layer) for each in find(Portrait("m", group))]
    assert kinds == ([("outlier", "h.4")] if found else [])


def test_a_few_forwards_tell_no_outliers():
    group = tuple(layer(f"h.{at}", seconds=each) for at, each in enumerate([0.01] * 4 + [0.05]))
    forwards = (ForwardFacts("prefill", 7, 0.1, 5),)
    assert find(Portrait("m", group, forwards)) == ()
    assert [each.layer for each in find(Portrait("m", group))] == ["h.4"]


def test_siblings_are_of_one_class():
    group = tuple(
        layer(
            str(at),
            type="Linear" if at % 2 else "ReLU",
            share=0.1,
            flops_share=0.01 + 0.5 * (at % 2),
        )
        for at in range(2)
    )
    assert [each.layer for each in find(Portrait("m", group))] == ["0"]


def test_siblings_that_differ_anyway_have_no_outliers():
    times = [0.004, 0.006, 0.01, 0.014, 0.021]
    group = tuple(
        layer(f"h.{at}", block=at, seconds=each, share=0.2) for at, each in enumerate(times)
    )
    assert find(Portrait("m", group)) == ()


def test_a_layer_that_hardly_takes_time_is_no_outlier():
    times = [1e-6, 1e-6, 1e-6, 1e-6, 9e-6]
    group = tuple(layer(f"h.{at}", seconds=each, share=each / 0.1) for at, each in enumerate(times))
    assert find(Portrait("m", group)) == ()


def points(*ratios: tuple[int, float]) -> tuple[ContextPoint, ...]:
    return tuple(ContextPoint("prefill", context, ratio * 0.01, 0.01) for context, ratio in ratios)


def test_attention_that_takes_over_is_found_with_the_context_at_which_it_does():
    finding = only(Portrait("m", contexts=points((100, 0.5), (300, 0.8), (500, 1.2))))
    assert (finding.kind, finding.evidence["crossing"]) == ("attention_grows", 400)
    assert finding.value == pytest.approx(1.2 / 2.2)


@pytest.mark.parametrize(
    "seen",
    [
        points((100, 0.5)),
        points((100, 0.5), (300, 2.0)),  # too near each other
        points((100, 0.5), (900, 0.6)),  # hardly grows
        points((100, 0.2), (900, 0.9)),  # is not the most yet
        points((100, 2.0), (900, 2.1)),
    ],
)
def test_attention_that_does_not_grow_is_not_found(seen):
    assert find(Portrait("m", contexts=seen)) == ()


@pytest.mark.parametrize(("busy", "found"), [(None, False), (0.3, False), (0.97, True)])
def test_a_device_that_waits_for_the_host_is_found(busy, found):
    forwards = (ForwardFacts("decode", 9, 0.02, 1, busy),)
    assert [each.kind for each in find(Portrait("m", forwards=forwards))] == (
        ["host_bound"] if found else []
    )


def test_more_than_all_of_the_bandwidth_is_not_told_as_a_share():
    """The weights came from a cache, or the roof was measured on a busy machine."""
    seconds = 1e9 / (2 * ROOF.bandwidth)
    layers = (
        layer(
            phase="decode", seconds=seconds, flops=0.5e9, moved=1e9,
            place=place(ROOF, 0.5e9, 1e9, seconds),
        ),
    )  # fmt: skip
    finding = only(Portrait("m", layers, (ForwardFacts("decode", 9, 0.1, 1),), roof=ROOF))
    assert finding.text.endswith("memory is the limit, at more than the bandwidth it showed")
    assert finding.evidence["bandwidth_share"] == pytest.approx(2)


@pytest.mark.parametrize(("flops", "found"), [(0.5e9, True), (50e9, False)])
def test_decode_that_moves_more_than_it_computes_is_found(flops, found):
    where = place(ROOF, flops, 1e9, 0.1)
    layers = (layer(phase="decode", seconds=0.1, flops=flops, moved=1e9, place=where),)
    portrait = Portrait("m", layers, (ForwardFacts("decode", 9, 0.1, 1),), roof=ROOF)
    if not found:
        assert find(portrait) == ()
        return
    finding = only(portrait)
    assert (finding.kind, finding.phase) == ("memory_bound", "decode")
    assert "% of its bandwidth" in finding.text
    assert finding.evidence["intensity"] == pytest.approx(0.5)
    assert finding.evidence["ridge"] == pytest.approx(5)
    assert finding.evidence["bandwidth_share"] == pytest.approx(0.5)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ([500 * MIB + at * 4 * MIB for at in range(32)], True),
        ([500 * MIB + at * 4 * MIB for at in range(8)], False),  # too few
        ([500 * MIB + at % 2 * 90 * MIB for at in range(32)], False),  # up and down
        ([500 * MIB + at for at in range(32)], False),  # too little
        ([(900 if at == 31 else 500) * MIB for at in range(32)], False),  # once
        ([500 * MIB] * 32, False),
    ],
)
def test_memory_that_grows_each_time_is_found(readings, found):
    kinds = [each.kind for each in find(Portrait("m", memory={"prefill": tuple(readings)}))]
    assert kinds == (["growing_memory"] if found else [])


# --- numbers ------------------------------------------------------------------------------------


def test_the_layer_where_nans_begin_is_found_once():
    finding = only(
        Portrait(
            "m",
            health=(
                health(0),
                health(1, nan=3, broken=3, first_broken=3),
                health(2, nan=9, broken=3, first_broken=0),
            ),
        )
    )
    assert (finding.kind, finding.layer, finding.block) == ("nan_first", "h.1", 1)
    assert finding.evidence["layers_broken"] == 2


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"cosine": 0.976}, True),
        ({"cosine": 0.974}, False),
        ({"cosine": None}, False),
        ({"cosine": 0.99, "tokens": 99}, False),
    ],
)
def test_a_block_that_hands_on_what_it_was_given_is_found(changed, found):
    kinds = [each.kind for each in find(Portrait("m", health=(health(3, **changed),)))]
    assert kinds == (["near_identity"] if found else [])


def test_only_blocks_are_candidates_for_being_left_out():
    norm = replace(health(None, cosine=1.0), layer="norm")
    assert find(Portrait("m", health=(norm,))) == ()


def test_massive_activations_are_told_once_from_the_first_block_on():
    finding = only(
        Portrait(
            "m",
            health=(
                health(0, abs_max=300.0, typical=2.0, dtype="float32", limit=3e38),
                health(1, abs_max=20000.0, typical=5.0, dtype="float32", limit=3e38),
                health(2, abs_max=22500.0, typical=6.0, dtype="float32", limit=3e38),
            ),
        )
    )
    assert (finding.kind, finding.layer) == ("massive_activations", "h.1")
    assert (finding.value, finding.evidence["where"]) == (22500.0, "h.2")
    assert finding.evidence["float16_range_used"] == pytest.approx(22500 / 65504)


@pytest.mark.parametrize(("top", "found"), [(32000.0, False), (33000.0, True), (None, False)])
def test_numbers_near_the_end_of_their_dtype_are_found(top, found):
    kinds = [
        each.kind for each in find(Portrait("m", health=(health(0, abs_max=top, typical=1e3),)))
    ]
    assert kinds == (["saturation"] if found else [])


@pytest.mark.parametrize(
    ("dead", "tokens", "found"), [(0.1, 1000, True), (0.09, 1000, False), (0.9, 999, False)]
)
def test_units_that_no_token_woke_are_found(dead, tokens, found):
    units = (Units("h.0.act", 0, dead, 256, tokens),)
    kinds = [each.kind for each in find(Portrait("m", units=units))]
    assert kinds == (["dead_units"] if found else [])


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (1.0, None),
        (99.0, None),
        (101.0, "exploding_gradient"),
        (inf, "exploding_gradient"),
        (nan, "exploding_gradient"),
        (0.009, "vanishing_gradient"),
        (0.0, "vanishing_gradient"),
    ],
)
def test_gradients_of_another_order_are_found(norm, kind):
    norms = [1.0, 1.0, 1.0, 1.0, norm]
    gradients = tuple(Gradient(f"h.{at}", at, each, 5) for at, each in enumerate(norms))
    found = [each.kind for each in find(Portrait("m", gradients=gradients))]
    assert found == ([kind] if kind else [])


def test_the_first_layer_where_inputs_look_new_is_found():
    drift = (
        Drift("h.0", 0, 0, False, 0.0, 0.4),
        Drift("h.4", 4, 1, True, 0.2, 1e-9),
        Drift("h.8", 8, 2, True, 0.4, 1e-12),
    )
    finding = only(Portrait("m", drift=drift))
    assert (finding.kind, finding.layer) == ("inputs_look_new", "h.4")
    assert (finding.evidence["layers_drifted"], finding.evidence["layers_watched"]) == (2, 3)


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("model.layers.3", "LlamaDecoderLayer", "block"),
        ("model.layers.3.self_attn", "LlamaAttention", "attention"),
        ("model.layers.3.post_attention_layernorm", "LlamaRMSNorm", "other"),
        ("h.0.attn.c_attn", "Conv1D", "attention"),
        ("model.layers.3.mlp", "LlamaMLP", "mlp"),
        ("encoder.0.intermediate", "BertFeedForward", "mlp"),
        ("lm_head", "Linear", "other"),
    ],
)
def test_roles_are_told_by_class_and_name(name, kind, expected):
    assert role(name, kind) == expected


def test_parts_of_a_block_are_told_by_the_path():
    assert part_of_block("h.3.self_attn.q_proj") == "attention"
    assert part_of_block("h.3.mlp.down_proj") == "mlp"
    assert part_of_block("h.3.post_attention_layernorm") == "other"


def test_siblings_have_the_same_pattern():
    assert pattern("model.layers.12.mlp") == pattern("model.layers.3.mlp") == "model.layers.*.mlp"


def test_every_kind_has_a_finder_that_says_what_it_is():
    assert all(each.__doc__ for each in findings.FINDERS)
