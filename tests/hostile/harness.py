"""Runs numbered cases in a child process with limits, and tells what went wrong.

A case is a function of its own random generator. It passes by returning or by raising a
MotetError. Anything else is a failure: another exception, a NumPy or Python warning, a process
that dies, one that is still busy at the limit of time, or one that needs more memory than allowed.
A failing case can be run again alone: `--only NUMBER` with the same seed.
"""

import argparse
import importlib
import multiprocessing
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from motet.errors import MotetError

Case = Callable[[np.random.Generator], None]


@dataclass(frozen=True)
class Failure:
    """What a case did that none may."""

    number: int
    kind: str  # "exception", "death", "hang" or "memory"
    detail: str

    def __str__(self) -> str:
        return f"case {self.number}: {self.kind}: {self.detail}"


@dataclass
class Report:
    """What became of all cases."""

    answered: int
    refused: int
    failures: list[Failure]
    slowest: float  # seconds of processor time of the slowest case

    def __str__(self) -> str:
        lines = [
            f"{self.answered} answered, {self.refused} refused, {len(self.failures)} failed; "
            f"the slowest took {self.slowest:.2f} s of processor time"
        ]
        return "\n".join(lines + [str(failure) for failure in self.failures])


def run(
    case: Case,
    numbers: range,
    seed: int = 0,
    *,
    seconds: float = 20,
    memory: int = 1 << 30,
    stop_after: int = 20,
) -> Report:
    """Run the cases of these numbers, each with the generator of (seed, number).

    `case` must be a function at the top of an importable module. `seconds` is wall time a case;
    `memory` is address space in bytes above what the child has after its first imports. The run
    ends early after `stop_after` failures.
    """
    report = Report(0, 0, [], 0.0)
    at = numbers.start
    while at < numbers.stop and len(report.failures) < stop_after:
        at = _run_child(case, range(at, numbers.stop), seed, seconds, memory, report)
    return report


def main(case: Case, description: str, *, seconds: float = 20, memory: int = 1 << 30) -> None:
    """The command line of an attack: --count, --seed, --only."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=1000, help="how many cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this one case, in this process")
    arguments = parser.parse_args()
    if arguments.only is not None:
        case(np.random.default_rng([arguments.seed, arguments.only]))
        return
    numbers = range(arguments.count)
    report = run(case, numbers, arguments.seed, seconds=seconds, memory=memory)
    print(report)
    sys.exit(bool(report.failures))


def _run_child(
    case: Case, numbers: range, seed: int, seconds: float, memory: int, report: Report
) -> int:
    """Run cases in one child until it ends; the number to go on with."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    where = (case.__module__, case.__qualname__)
    if case.__module__ == "__main__":  # run as a script: the child imports it by its name
        spec = sys.modules["__main__"].__spec__
        assert spec is not None, "run attacks with python -m"
        where = (spec.name, case.__qualname__)
    child = context.Process(target=_work, args=(theirs, where, numbers, seed, memory), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(60) or ours.recv() != "ready":
            raise RuntimeError("the child that runs the cases did not start")
        for number in numbers:
            if not ours.poll(seconds):
                report.failures.append(Failure(number, "hang", f"still busy after {seconds} s"))
                return number + 1
            try:
                kind, detail, took = ours.recv()
            except (EOFError, ConnectionResetError):
                child.join(10)
                code = f"the process ended with code {child.exitcode}"
                report.failures.append(Failure(number, "death", code))
                return number + 1
            report.slowest = max(report.slowest, took)
            if kind == "answered":
                report.answered += 1
            elif kind == "refused":
                report.refused += 1
            else:
                report.failures.append(Failure(number, kind, detail))
                return number + 1  # a fresh child: what failed may have left something behind
        return numbers.stop
    finally:
        child.kill()
        child.join()
        ours.close()


def _work(pipe: Connection, where: tuple[str, str], numbers: range, seed: int, memory: int) -> None:
    """The child: run each case and send (kind, detail, processor seconds)."""
    case = getattr(importlib.import_module(where[0]), where[1])
    warnings.simplefilter("error")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    for number in numbers:
        start = time.process_time()
        kind, detail = _judge(case, np.random.default_rng([seed, number]))
        try:
            pipe.send((kind, detail, time.process_time() - start))
        except BrokenPipeError:
            return


def _judge(case: Case, random: np.random.Generator) -> tuple[str, str]:
    try:
        case(random)
    except MotetError:
        return "refused", ""
    except MemoryError:
        return "memory", traceback.format_exc(limit=-4)
    except BaseException:
        return "exception", traceback.format_exc(limit=-4)
    return "answered", ""
