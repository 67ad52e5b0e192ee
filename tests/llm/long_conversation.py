"""The child of test_small_machine: path of a model, kind of limit, limit."""

import mmap
import os
import resource
import sys
from pathlib import Path

from motet.errors import CapacityError
from motet.llm import LLM
from motet.model import Model


def statm(field: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[field]) * mmap.PAGESIZE


def main(path: str, kind: str, limit: str) -> None:
    if kind == "group":
        (Path(limit) / "cgroup.procs").write_text(str(os.getpid()))
    model = Model.load(path, 1)
    if kind == "address space":
        most = statm(0) + int(limit)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with LLM(model, max_sequences=2) as llm:
        conversation = [1, 2, 3]
        llm.generate(conversation, max_tokens=3)
        llm.forget()
        before = statm(1)
        try:
            while True:
                answer = llm.generate(conversation, max_tokens=50, temperature=0)
                conversation += [*answer.tokens, 4, 5, 6]
        except CapacityError as error:
            print(f"CapacityError: {error}")
        full = statm(1)
        llm.forget()
        print(before, full, statm(1), sep="\n")


main(*sys.argv[1:])
