"""Native kernels on every instruction set that this machine can run."""

import pytest

from motet.kernels import CPU, _cpu


@pytest.fixture(params=_cpu.supported(), scope="session")
def cpu(request: pytest.FixtureRequest) -> CPU:
    return CPU(threads=2, isa=request.param)
