"""What ``CUDA_VISIBLE_DEVICES`` makes ours."""

from __future__ import annotations

import os

import pytest

from llmwatch.sources.gpu.family import is_ours
from llmwatch.sources.gpu.visible import Part, Whole, visible

PARTS = (Part("MIG-aaaa-1", 1, 0), Part("MIG-aaaa-2", 2, 0))
GPUS = [Whole("GPU-aaaa-0000", PARTS), Whole("GPU-aabb-1111"), None, Whole("GPU-cccc-3333")]
A, B, C = "GPU-aaaa-0000", "GPU-aabb-1111", "GPU-cccc-3333"
FIRST = {A, "MIG-aaaa-1", "MIG-aaaa-2"}


@pytest.mark.parametrize(
    ("setting", "ours"),
    [
        (None, {*FIRST, B, C}),
        ("", set()),
        ("-1", set()),
        ("NoDevFiles", set()),
        ("0", FIRST),
        ("1", {B}),
        ("3,1", {B, C}),
        (" 1 , 3 ", {B, C}),
        ("1,1", set()),  # in CUDA, one that is named twice hides all
        (f"{B},GPU-aab", set()),
        ("+1", {B}),
        ("1gpu,3", {B, C}),  # numbers are read as C reads them
        ("-0", set()),
        (f"3,{B}", {C}),  # numbers and names cannot be mixed
        (f"{B},3", {B}),
        ("1,9,3", {B}),  # CUDA reads no further than a name that does not exist
        ("1,2,3", {B}),  # nor than a GPU that cannot be had
        ("1,-1,3", {B}),
        ("99999999999", set()),
        (B, {B}),
        ("GPU-c", {C}),  # a beginning is enough
        ("GPU-aa", set()),  # unless it is not clear whose
        ("GPU-", set()),
        ("GPU-dddd", set()),
        ("MIG-aaaa-2", {"MIG-aaaa-2"}),
        ("MIG-GPU-aaaa-0000/1/0", {"MIG-aaaa-1"}),  # as drivers before 470 named them
        ("MIG-GPU-aaaa-0000/5/0", set()),
        ("MIG-", set()),
        ("MIG-aaaa", set()),  # not clear which
        ("MIG-aaaa-1,MIG-aaaa-2", {"MIG-aaaa-1", "MIG-aaaa-2"}),
        (f"{B},MIG-aaaa-1", {B}),
    ],
)
def test_it_names_devices_as_cuda_reads_it(setting, ours):
    assert visible(setting, GPUS) == ours


def test_a_process_is_ours_if_it_descends_from_us():
    assert is_ours(os.getpid())
    assert not is_ours(os.getppid())
    assert not is_ours(2**22 + 1)
    reader, writer = os.pipe()
    waiting, end = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            os.read(waiting, 1)
            os._exit(0)
        os.write(writer, b"%d\n" % grandchild)
        os.waitpid(grandchild, 0)
        os._exit(0)
    grandchild = int(os.read(reader, 20))
    try:
        assert is_ours(child)
        assert is_ours(grandchild)
    finally:
        os.write(end, b"x")
        os.waitpid(child, 0)
