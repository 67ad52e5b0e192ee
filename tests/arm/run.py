"""The kernels on 64-bit ARM, by qemu, beside those of this machine.

    python -m tests.arm.run [neon dotprod i8mm]
    python -m tests.arm.run --share i8mm    # some minutes' worth of it

For each variant: the tests of kernels, of golden logits and of the solo law on an ARM processor
that has it; digests of logits equal to this machine's; conversations that are saved here, go on
there and come back, to the bit as if they had never left. `make test-arm` calls it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARM = ROOT / "build/arm"
PROCESSORS = {"neon": "cortex-a57", "dotprod": "neoverse-n1", "i8mm": "max"}
"""One that has the variant's instructions, as qemu calls it, and none beyond them."""
TESTS = (
    "tests/kernels/test_linear.py",
    "tests/kernels/test_attention.py",
    "tests/kernels/test_recurrent.py",
    "tests/kernels/test_elementwise.py",
    "tests/kernels/test_experts.py",
    "tests/parity/test_goldens.py",
    "tests/solo/test_forks.py",
)
QUICK = ("tests/kernels/test_linear.py", "tests/kernels/test_elementwise.py")
"""Of variants after the first, which differ in the products of bytes alone."""
SHARE = ("tests/kernels/test_linear.py",)
SHARE_EVERY = 12
"""Of so many models one has its digests compared in a share."""


def here(*arguments: str) -> None:
    _run([sys.executable], *arguments)


def there(variant: str, *arguments: str) -> None:
    emulator = ["qemu-aarch64", "-cpu", PROCESSORS[variant], "-L", str(ARM / "root")]
    path = os.pathsep.join([str(ROOT / "src"), str(ARM / "site")])
    _run([*emulator, str(ARM / "python")], *arguments, PYTHONPATH=path, MOTET_ISA=variant)


def _run(command: list[str], *arguments: str, **environment: str) -> None:
    own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MOTET_THREADS": "1"}
    subprocess.run(
        [*command, *arguments], check=True, cwd=ROOT, env={**os.environ, **own, **environment}
    )


def same(one: Path, other: Path) -> None:
    """Every file of the two folders, byte for byte; ends the process where any differs."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert names
    for name in names:
        if (one / name).read_bytes() != (other / name).read_bytes():
            sys.exit(f"{name} is another on ARM: see {one} and {other}")
    print(f"{len(names)} files are the same")


def compare(variant: str, folder: Path, every: int) -> None:
    """Digests of one of ``every`` models, and conversations that travel there and back."""
    for name in ("digests-here", "digests-there", "staying", "travelling"):
        (folder / name).mkdir()
    digests = ("-m", "tests.arm.journey", "digests", "--every", str(every))
    here(*digests, str(folder / "digests-here/digests"))
    there(variant, *digests, str(folder / "digests-there/digests"))
    same(folder / "digests-here", folder / "digests-there")
    for where in ("staying", "travelling"):
        here("-m", "tests.arm.journey", "begin", str(folder / where))
    here("-m", "tests.arm.journey", "go-on", str(folder / "staying"))
    there(variant, "-m", "tests.arm.journey", "go-on", str(folder / "travelling"))
    same(folder / "staying", folder / "travelling")
    for where in ("staying", "travelling"):
        here("-m", "tests.arm.journey", "go-on", str(folder / where))
    same(folder / "staying", folder / "travelling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(PROCESSORS)}; all by default")
    parser.add_argument("--share", action="store_true", help="what takes a few minutes")
    arguments = parser.parse_args()
    variants: list[str] = arguments.variants or [*PROCESSORS]
    prepared = subprocess.run([ROOT / "tests/arm/prepare.sh", *variants], check=False)
    if prepared.returncode:
        sys.exit(prepared.returncode)
    for variant in variants:
        print(f"{variant}, on {PROCESSORS[variant]}", flush=True)
        tests = SHARE if arguments.share else TESTS if variant == variants[0] else QUICK
        there(variant, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
        with tempfile.TemporaryDirectory() as folder:
            compare(variant, Path(folder), SHARE_EVERY if arguments.share else 1)


if __name__ == "__main__":
    main()
