"""The benchmark of what a decode takes outside of the kernels: it runs, and leaves no trace."""

import numpy as np
import pytest

import motet
from benchmarks.step_overhead import PARTS, Steps
from tests.evals.models import loaded


@pytest.mark.parametrize("name", ["motet-tiny", "mamba", "jamba"])
def test_every_part_takes_time_and_kernels_compute_again(name: str) -> None:
    model = loaded(name)
    batch = motet.Batch()
    batch.extend([1, 2, 3], 0)
    before = model.context().decode(batch).logits
    steps = Steps(model, 3)
    times = steps.measure(4)
    assert tuple(times) == PARTS
    assert all(times[part][0] > 0 for part in PARTS if part != "layers")
    assert np.array_equal(model.context().decode(batch).logits, before)
