"""Native kernels on every instruction set that this machine can run, or on the one of MOTET_ISA."""

import os

import pytest

from motet.kernels import CPU, _cpu

ASKED = os.environ.get("MOTET_ISA")


@pytest.fixture(params=[ASKED] if ASKED else _cpu.supported(), scope="session")
def cpu(request: pytest.FixtureRequest) -> CPU:
    return CPU(threads=2, isa=request.param)
