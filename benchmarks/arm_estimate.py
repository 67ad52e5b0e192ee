"""Cycles of the matrix kernels on 64-bit ARM, as llvm-mca estimates them, beside llama.cpp's.

    python -m benchmarks.arm_estimate ../llama.cpp

An estimate, not a measurement: no ARM processor is needed. The kernels, and those of ggml's
`arch/arm/repack.cpp` in llama.cpp's sources, are compiled with aarch64-linux-gnu-g++ and run once
in qemu, which writes down every instruction. What a kernel does for one more block of columns is
given to llvm-mca: how many cycles it takes, over and over, with all data in the first-level cache.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NATIVE = ROOT / "src/motet/kernels/native"
COMPILER = "aarch64-linux-gnu-g++"
MCA = "llvm-mca-16"
SUPERS = 23
"""Times 256 columns in a traced call: a number that no other loop has."""


@dataclass(frozen=True)
class Target:
    """A set of instructions, and a processor with it as llvm-mca and as qemu call it."""

    isa: str
    march: str
    mca: str
    qemu: str


TARGETS = (
    Target("dotprod", "armv8.2-a+dotprod+fp16", "apple-m1", "max"),
    Target("i8mm", "armv8.2-a+dotprod+i8mm+fp16", "neoverse-v2", "max"),
)


@dataclass(frozen=True)
class Kernel:
    """A call that can be traced: its name in the program, and how much it computes."""

    label: str
    name: str
    function: str
    """What the traced function's name contains."""
    rows: int
    """Of x."""
    weights: int
    """Rows of weights."""


TYPES = ("Q4_0", "Q8_0", "Q4_K", "Q6_K")
HEIGHTS = (1, 4, 16)


def ours() -> list[Kernel]:
    return [
        Kernel(f"{type} {rows}", f"{type}_{rows}", "multiply", rows, 16)
        for type in TYPES
        for rows in HEIGHTS
    ]


def theirs(isa: str) -> list[Kernel]:
    """llama.cpp's kernels for the same: gemv for a row, gemm for four or, where it has such, 16."""
    kernels: list[Kernel] = []
    for type in TYPES:
        supers = type.endswith("_K")
        interleaved = 8 if supers else 4
        form = f"{interleaved}x{8 if isa == 'i8mm' else 4}_q8_{'K' if supers else 0}"
        for rows in HEIGHTS:
            name = f"ggml_gem{'v' if rows == 1 else 'm'}_q{type[1:]}_{form}"
            at_once = rows if rows == 1 or (type, rows) == ("Q4_0", 16) else 4
            kernels.append(Kernel(f"{type} {rows}", name, name, at_once, interleaved))
    return kernels


OURS = """
#include <cstdlib>
#include <string>

#include "multiply_neon.hpp"
namespace {{
alignas(64) uint8_t weights[1 << 20], rows[1 << 20];
alignas(64) float scales[1 << 16];
alignas(64) Side::Value side[1 << 16];
template <int type, int R>
void call(int64_t blocks) {{
  using L = LayoutOf<type>;
  f32x16 out[1][R];
  multiply_neon<L, R, 1>(weights, 0, blocks, (const int8_t*)rows, scales, side, Fetch{{0, 1}}, out);
  asm volatile("" : : "r"(out) : "memory");
}}
}}  // namespace
int main(int, char** arguments) {{
  const std::string name = arguments[1];
  {cases}
  return 1;
}}
"""
THEIRS = """
#include <cstdlib>
#include <cstddef>
#include <string>
alignas(64) static char weights[1 << 20], rows[1 << 20];
static float out[1 << 16];
extern "C" {{
{declared}
}}
int main(int, char** arguments) {{
  const std::string name = arguments[1];
  {cases}
  return 1;
}}
"""
SIGNATURE = "int, float*, size_t, const void*, const void*, int, int"


def compiled(source: str, folder: Path, target: Target, *more: str) -> Path:
    """The program that ``source`` is."""
    path, program = folder / "program.cpp", folder / "program"
    path.write_text(source)
    flags = ["-std=c++20", "-O3", "-DNDEBUG", "-static", "-ffunction-sections", "-Wl,--gc-sections"]
    flags += ["-ffp-contract=off", "-fno-math-errno", f"-march={target.march}"]
    subprocess.run([COMPILER, *flags, *more, str(path), "-o", str(program)], check=True)
    return program


def our_program(folder: Path, target: Target) -> Path:
    cases = [
        f'if (name == "{kernel.name}")'
        f" return call<{kernel.label.replace(' ', ', ')}>(atoi(arguments[2])), 0;"
        for kernel in ours()
    ]
    return compiled(OURS.format(cases="\n  ".join(cases)), folder, target, f"-I{NATIVE}")


def their_program(folder: Path, target: Target, sources: Path) -> Path:
    kernels = {kernel.name: kernel for kernel in theirs(target.isa)}
    declared = [f"void {name}({SIGNATURE});" for name in kernels]
    cases = [
        f'if (name == "{kernel.name}") return {kernel.name}(atoi(arguments[2]) * 32, out, 64,'
        f" weights, rows, atoi(arguments[3]), {kernel.weights}), 0;"
        for kernel in kernels.values()
    ]
    source = THEIRS.format(declared="\n".join(declared), cases="\n  ".join(cases))
    ggml = sources / "ggml"
    places = [f"-I{ggml / place}" for place in ("include", "src", "src/ggml-cpu")]
    repack = str(ggml / "src/ggml-cpu/arch/arm/repack.cpp")
    return compiled(source, folder, target, "-w", *places, repack)


def one_round(program: Path, kernel: Kernel, target: Target, folder: Path) -> tuple[list[int], int]:
    """The addresses of what ``kernel`` runs through in a round of its loop, and its columns."""
    log = folder / "trace"
    call = [str(program), kernel.name, str(SUPERS * 8), str(kernel.rows)]
    tracing = ["-singlestep", "-d", "exec,nochain", "-D", str(log)]
    subprocess.run(["qemu-aarch64", "-cpu", target.qemu, *tracing, *call], check=True)
    found = re.findall(r"/([0-9a-f]{16})/[0-9a-f/]+\] (.*)", log.read_text())
    trace = [int(address, 16) for address, function in found if kernel.function in function]
    counts = Counter(trace)
    for rounds, columns in ((SUPERS, 256), (SUPERS * 8, 32)):
        head = next((at for at in trace if counts[at] == rounds), None)
        if head is not None:
            places = [i for i, at in enumerate(trace) if at == head]
            return trace[places[rounds // 2] : places[rounds // 2 + 1]], columns
    sys.exit(f"{kernel.name} has no loop over blocks")


def instructions(program: Path) -> dict[int, str]:
    """What stands at each address, as an assembler reads it."""
    dump = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(program)]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^ +([0-9a-f]+):\t(.*)$", text, re.MULTILINE)
    return {int(at, 16): re.sub(r"\s*(//.*|<.*>)$", "", code) for at, code in found}


def estimate(code: list[str], target: Target) -> tuple[float, int]:
    """Cycles of ``code``, over and over, and how many instructions are there."""
    straight = [line for line in code if not re.match(r"b\b|b\.|cbn?z|tbn?z|ret|adrp?\b", line)]
    rounds = 100
    run = [MCA, "-mtriple=aarch64", f"-mcpu={target.mca}", "-mattr=+dotprod,+i8mm,+fullfp16"]
    run += [f"-iterations={rounds}", "-instruction-info=0", "-resource-pressure=0"]
    out = subprocess.run(run, input="\n".join(straight), check=True, capture_output=True, text=True)
    cycles = re.search(r"Total Cycles: +(\d+)", out.stdout)
    assert cycles
    return int(cycles[1]) / rounds, len(code)


Figures = dict[str, tuple[float, float]]


def measured(program: Path, kernels: list[Kernel], target: Target, folder: Path) -> Figures:
    """Cycles and instructions of each kernel, for 16 rows of weights, 32 columns and a row of x."""
    known = instructions(program)
    out: Figures = {}
    for kernel in kernels:
        addresses, columns = one_round(program, kernel, target, folder)
        cycles, count = estimate([known[at] for at in addresses], target)
        share = kernel.rows * kernel.weights / 16 * columns / 32
        out[kernel.label] = cycles / share, count / share
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama", type=Path, help="llama.cpp's sources")
    arguments = parser.parse_args()
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            program = our_program(folder, target)
            own = measured(program, ours(), target, folder)
            program = their_program(folder, target, arguments.llama)
            other = measured(program, theirs(target.isa), target, folder)
        print(f"\n{target.isa}, {target.mca}: cycles (instructions) of 16 × 32 weights and a row")
        print("| type, rows | Motet | llama.cpp | |\n|---|---|---|---|")
        for label, (cycles, count) in own.items():
            their_cycles, their_count = other[label]
            print(
                f"| {label} | {cycles:.1f} ({count:.0f}) | {their_cycles:.1f} ({their_count:.0f})"
                f" | {cycles / their_cycles:.2f} |"
            )


if __name__ == "__main__":
    main()
