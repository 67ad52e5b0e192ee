"""What quantising costs and takes, beside llama.cpp's llama-quantize.

    python -m benchmarks.quantize quality MODEL -f TEXT --llama-quantize PROGRAM
    python -m benchmarks.quantize speed MODEL --llama-quantize PROGRAM [--folder /dev/shm]

``quality``: the perplexity, by Motet, of the files that both make, with and without an importance
matrix of Motet's (of a text of its own). ``speed``: time, the processor's time and peak memory of
both in turn; files go to --folder, of which a tmpfs leaves the disk out.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click

from motet.conversion.quantize import quantize
from motet.evals.importance import importance_matrix
from motet.evals.perplexity import perplexity
from motet.model import Model

QUALITY = (
    "F16 Q8_0 Q6_K Q5_K_M Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K"
)
SPEED = "Q8_0 Q4_0 Q4_K_M Q6_K Q3_K_M IQ4_XS"

program_option = click.option("--llama-quantize", "program", required=True, type=click.Path())
types_option = click.option("--types", help="Separated by spaces.")


@click.group()
def main() -> None:
    """Beside llama-quantize."""


@main.command()
@click.argument("model")
@click.option("-f", "--file", "text_file", required=True, help="What perplexity is measured on.")
@click.option("--calibration", help="The text of an importance matrix.")
@click.option("-c", "--ctx", default=256)
@click.option("--chunks", default=64)
@program_option
@types_option
def quality(
    model: str,
    text_file: str,
    calibration: str | None,
    ctx: int,
    chunks: int,
    program: str,
    types: str | None,
) -> None:
    """A line of a Markdown table for each type."""
    text = Path(text_file).read_text()
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.gguf", Path(folder) / "theirs.gguf"
        matrix: list[str | None] = [None]
        if calibration:
            matrix.append(f"{folder}/imatrix.gguf")
            importance_matrix(model, Path(calibration).read_text(), ctx=ctx, chunks=64).write(
                f"{folder}/imatrix.gguf"
            )
        print(f"{Path(model).name}: {_perplexity(model, text, ctx, chunks):.4f} as it is\n")
        print("| type | bits | Motet | llama.cpp |" + " Motet | llama.cpp |" * bool(calibration))
        print("|---|--:|--:|--:|" + "--:|--:|" * bool(calibration))
        for type in (types or QUALITY).split():
            cells: list[str] = []
            for imatrix in matrix:
                made = quantize(
                    model, ours, type, imatrix=imatrix, allow_requantize=True, overwrite=True
                )
                options = ["--imatrix", imatrix] if imatrix else []
                command = [program, "--allow-requantize", *options, model, str(theirs), type]
                subprocess.run(command, check=True, capture_output=True)
                cells = cells or [type, f"{made.bits_per_weight:.2f}"]
                cells += [f"{_perplexity(file, text, ctx, chunks):.4f}" for file in (ours, theirs)]
            print(f"| {' | '.join(cells)} |", flush=True)


def _perplexity(path: str | Path, text: str, ctx: int, chunks: int) -> float:
    model = Model.load(path)
    assert model.tokenizer is not None
    tokens = model.tokenizer.encode(text, add_special=True, parse_special=False)
    *_, last = perplexity(model, tokens, ctx=ctx, chunks=chunks)
    return last.perplexity


@main.command()
@click.argument("model")
@click.option("--folder", default="/dev/shm", type=click.Path())
@click.option("--rounds", default=1)
@program_option
@types_option
def speed(model: str, folder: str, rounds: int, program: str, types: str | None) -> None:
    """A line of a Markdown table for each type: the best of the rounds."""
    print("| type | Motet | llama-quantize | processor, both | peak memory, both |")
    print("|---|--:|--:|--:|--:|")
    with TemporaryDirectory(dir=folder) as place:
        out = f"{place}/out.gguf"
        for type in (types or SPEED).split():
            commands = (
                [sys.executable, "-m", "motet.cli", "quantize", model, out, type],
                [program, model, out, type],
            )
            found: list[list[tuple[float, float, int]]] = [[], []]
            for _ in range(rounds):
                for results, command in zip(found, commands, strict=True):
                    results.append(_timed(command))
                    Path(out).unlink()
            (a, a_used, a_peak), (b, b_used, b_peak) = (min(results) for results in found)
            print(
                f"| {type} | {a:.1f} s | {b:.1f} s | {a_used:.1f} s, {b_used:.1f} s |"
                f" {a_peak / 1e6:,.0f} MB, {b_peak / 1e6:,.0f} MB |",
                flush=True,
            )


def _timed(command: list[str]) -> tuple[float, float, int]:
    """Seconds, seconds of the processor, and the peak resident set in bytes, mapped files too."""
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return perf_counter() - start, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


if __name__ == "__main__":
    main()
