"""Bits that don't depend on the batch: in other processes, on other kernels of the BLAS library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = {
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
}

CHILD = """
import hashlib, json
import numpy as np
from charrnn.compiled import CompiledModel
from charrnn.config import SEEDS_OF_FOURS
from charrnn.products import BY_ROW
from charrnn.exactness import rows_are_exact
from charrnn.threads import blas_kernel, blas_threads
from tests.models import differing_lives, network, titled

digest, differing = hashlib.sha256(), 0
for cell in ("rnn", "lstm", "gru"):
    for hidden, layers, vocab in ((1, 2, 2), (7, 3, 27), (128, 1, 300), (130, 2, 65)):
        model = network(cell, hidden=hidden, layers=layers, vocab=vocab)
        for block in {BY_ROW, CompiledModel(model).block}:
            with blas_threads(1):  # as everything that draws
                differing += differing_lives(model, ticks=8, seed=hidden, block=block)[0]
exact = rows_are_exact(CompiledModel(network(hidden=128, vocab=27)), steps=2)
# Large enough for several threads to share a row, and for a matrix to be multiplied in pieces.
large = CompiledModel(network("lstm", hidden=512, layers=2, vocab=65))
exact &= rows_are_exact(large, steps=2)
digest.update(large.read([1, 2, 3]).state.tobytes())
for hidden, layers in ((7, 1), (130, 2)):
    for seed in (3, SEEDS_OF_FOURS[3]):
        made = titled(hidden=hidden, layers=layers).generate("R", count=9, random_seed=seed)
        digest.update(repr(list(made)).encode())
in_panels = large.block.in_panels, large.block.has_fours
print(json.dumps([blas_kernel(), differing, exact, in_panels, digest.hexdigest()]))
"""


def child(**environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cpu_flags():
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return set(lines[0].split()) if lines else set()


@pytest.mark.parametrize(  # Zen has most of Haswell's
    "kernel", [*NEEDED, pytest.param("Zen", marks=pytest.mark.prove)]
)
def test_bits_depend_neither_on_the_batch_nor_on_the_threads_under(kernel):
    missing = NEEDED.get(kernel, NEEDED["Haswell"]) - cpu_flags()
    if missing:
        pytest.skip(f"this processor can't run {kernel}: it has no {', '.join(sorted(missing))}")
    results = [
        child(OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS=threads) for threads in ("1", "2")
    ]
    for _, differing, exact, in_panels, _ in results:
        assert not differing
        assert exact
        assert in_panels == [kernel in ("Haswell", "Zen")] * 2  # the way that is fast there, found
    assert results[0] == results[1]


def test_bits_do_not_depend_on_the_batch_without_numpys_wide_vectors():
    from numpy._core import _multiarray_umath as umath

    found = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    if not found:
        pytest.skip("this numpy has one form of each function for this processor")
    _, differing, exact, *_ = child(NPY_DISABLE_CPU_FEATURES=" ".join(found))
    assert not differing
    assert exact
