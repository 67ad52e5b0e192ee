"""The default share of memory."""

import pytest

from motet.errors import OptionError
from motet.machine import memory_limit
from motet.memory.budget import default_checkpoint_bytes
from tests.toy import RECURRENT, ToyModel


def test_a_sixteenth_of_the_machine():
    limit = memory_limit()
    assert limit is not None and default_checkpoint_bytes() == limit // 16
    assert ToyModel(layers=RECURRENT).context(checkpoint_bytes=None).memory.checkpoint_bytes > 0


@pytest.mark.parametrize("given", [-1, 1.5, "1 GB"])
def test_budgets_that_make_no_sense(given):
    with pytest.raises(OptionError, match="checkpoint_bytes is"):
        ToyModel().context(checkpoint_bytes=given)
