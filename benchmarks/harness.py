"""The speed of lm-evaluation-harness by Motet and by its Hugging Face back end, on one model.

    python -m benchmarks.harness DIRECTORY --file hellaswag_val.txt [--tasks 400] [--turns 5]
        [--gguf URL --gguf-process ID]

DIRECTORY is a Hugging Face model that both read. Turn by turn each scores the same requests, of
HellaSwag, on one thread; the time is that of the processor, so that other programs are in nobody's
way. Hugging Face pads a batch to its longest text: the best of its batch sizes counts. With --gguf
the harness' back end for llama.cpp's servers is measured too, once: by the processor's time of both
processes where the server's is named, otherwise by the clock. That server is to have one thread and
all logits:

    python -m llama_cpp.server --model FILE --logits_all true --n_threads 1 --n_threads_batch 1
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.gguf import GGUFLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from motet.integrations.lm_eval import MotetLM

TASKS = Path(__file__).parents[1] / "src" / "motet" / "integrations" / "tasks"
BATCHES = (1, 8, 32)


def requests_of(directory: str, file: str, count: int) -> list[Any]:
    manager = TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata={"file": file, "path": directory}
    )
    task = manager.load(["motet_hellaswag"])["tasks"]["motet_hellaswag"]
    task.build_all_requests(limit=count)
    return task.instances


def measured(run: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    begun = clock()
    found = run()
    return clock() - begun, found


def spent(process: int) -> float:
    """The processor's seconds of another process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--file", required=True)
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--gguf", help="a llama.cpp server of the same model")
    parser.add_argument("--gguf-process", type=int, help="the id of its process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    requests = requests_of(options.directory, options.file, options.tasks)
    motet = MotetLM(options.directory, threads=1)
    backends: dict[str, Callable[[], Any]] = {
        "motet": lambda: motet.loglikelihood(requests, disable_tqdm=True)
    }
    for size in BATCHES:
        peer = HFLM(options.directory, device="cpu", dtype="float32", batch_size=size)
        name = f"hf, batch size {size}"
        backends[name] = lambda peer=peer: peer.loglikelihood(requests, disable_tqdm=True)
    scores = {name: run() for name, run in backends.items()}
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(options.turns):
        for name, run in backends.items():
            seconds[name].append(measured(run, time.process_time)[0])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min((name for name in medians if name != "motet"), key=lambda name: medians[name])
    away = max(abs(a[0] - b[0]) for a, b in zip(scores["motet"], scores[best], strict=True))
    for name, values in seconds.items():
        print(f"{name:20} {min(values):8.2f} s {medians[name]:8.2f} s (least, median)")
    print(f"{len(requests)} requests; log likelihoods differ by {away:.1e} at most")
    print(f"motet is {medians[best] / medians['motet']:.2f} times as fast as {best}")
    if options.gguf:
        server, process = GGUFLM(options.gguf), options.gguf_process
        clock = time.perf_counter
        if process is not None:
            clock = lambda: time.process_time() + spent(process)  # noqa: E731
        one, _ = measured(lambda: motet.loglikelihood(requests, True), clock)
        other, _ = measured(lambda: server.loglikelihood(requests, True), clock)
        print(f"{other / one:.2f} times as fast as gguf ({one:.2f} s, {other:.2f} s)")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
