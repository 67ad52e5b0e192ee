"""The check of wheels sees what must not be shipped; building one takes minutes (`make wheel`)."""

import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="TOML is read from Python 3.11 on")

from tests.wheel import KERNELS, NEEDED, problems

ABI3 = "motet-0.1.0-cp312-abi3-manylinux_2_34_x86_64.whl"
OLD = "motet-0.1.0-cp311-cp311-linux_x86_64.whl"
ARM = "motet-0.1.0-cp310-cp310-manylinux_2_28_aarch64.whl"
MAC = "motet-0.1.0-cp312-abi3-macosx_11_0_arm64.whl"
SUFFIX = {
    ABI3: ".abi3.so",
    OLD: ".cpython-311-x86_64-linux-gnu.so",
    ARM: ".cpython-310-aarch64-linux-gnu.so",
    MAC: ".abi3.so",
}


def build(folder: Path, name: str, *more: str, without: str = "") -> Path:
    """A wheel of empty files."""
    kernels = next(KERNELS[end] for end in KERNELS if name.endswith(f"{end}.whl"))
    files = NEEDED | {f"motet/kernels/{kernel}{SUFFIX[name]}" for kernel in kernels} | {*more}
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file in sorted(files):
            if not without or without not in file:
                archive.writestr(file, "")
    return folder / name


@pytest.mark.parametrize("name", [ABI3, OLD, ARM, MAC])
def test_a_sound_wheel(tmp_path: Path, name: str) -> None:
    assert problems(build(tmp_path, name)) == []


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("motet/kernels/_emulated.abi3.so", "_emulated is not for users"),
        ("motet/kernels/_avx2.cpython-312-x86_64-linux-gnu.so", "more than once"),
        ("motet/kernels/native/simd.hpp", "source code"),
        ("motet/_cpu.abi3.so", "nothing looks for it"),
    ],
)
def test_what_is_too_much(tmp_path: Path, more: str, problem: str) -> None:
    assert problem in " ".join(problems(build(tmp_path, ABI3, more)))


@pytest.mark.parametrize("without", ["_amx", "py.typed", ".gguf"])
def test_what_is_missing(tmp_path: Path, without: str) -> None:
    assert "is missing" in " ".join(problems(build(tmp_path, ABI3, without=without)))


def test_kernels_of_another_processor(tmp_path: Path) -> None:
    wheel = build(tmp_path, ABI3).rename(tmp_path / MAC)
    found = " ".join(problems(wheel))
    assert "_amx is not for users" in found
    assert "_i8mm is missing" in found


def test_a_platform_without_kernels(tmp_path: Path) -> None:
    wheel = build(tmp_path, ABI3).rename(tmp_path / ABI3.replace("x86_64", "riscv64"))
    assert "no kernels for manylinux_2_34_riscv64" in " ".join(problems(wheel))


def test_modules_of_another_python(tmp_path: Path) -> None:
    wheel = build(tmp_path, OLD).rename(tmp_path / OLD.replace("cp311", "cp310"))
    assert "not built for cp310" in " ".join(problems(wheel))


def test_make_demo_and_make_wheel_do_not_share_options() -> None:
    """`make demo` builds the emulated kernel too; its folder keeps that option."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert "{state}" in project["tool"]["scikit-build"]["build-dir"]
