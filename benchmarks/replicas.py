"""What Ray Serve costs: replicas of one core each beside one process with as many cores.

    python -m benchmarks.replicas MODEL [--replicas 2] [--clients 8] [--turns 3] [--tokens 64]

Each client streams answers one after the other, as text is continued; tokens a second are those of
all clients together. Both are measured turn by turn, on the same machine at the same time of day,
the one that is not measured idle. Needs ray[serve]; give Ray's proxy a core beside those counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ray
from ray import serve

from benchmarks.serving import free_port
from deploy.ray_serve import Settings, application

ROOT = Path(__file__).parents[1]


def wait_for(url: str) -> None:
    while True:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)


def answered(url: str, turn: int, client: int, answers: int, tokens: int) -> int:
    """How many tokens the answers have; each turn asks anew, so that nothing is remembered."""
    written = 0
    with httpx.Client(base_url=url, timeout=600) as http:
        for number in range(answers):
            body = {
                "model": "any",
                "prompt": f"{turn} {client} {number} Once upon a time",
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            session = {"X-Session-Id": str(client)}
            with http.stream("POST", "/v1/completions", json=body, headers=session) as response:
                response.raise_for_status()
                events = [line[6:] for line in response.iter_lines() if line.startswith("data: {")]
            written += json.loads(events[-1])["usage"]["completion_tokens"]
    return written


def tokens_per_second(url: str, turn: int, clients: int, answers: int, tokens: int) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        counts = threads.map(
            lambda client: answered(url, turn, client, answers, tokens), range(clients)
        )
        return sum(counts) / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    model = str(Path(options.model).absolute())
    alone, port = free_port(), free_port()
    command = [sys.executable, "-m", "motet", "serve", model, "--port", str(alone)]
    server = subprocess.Popen([*command, "-t", str(options.replicas)], stderr=subprocess.DEVNULL)
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=options.replicas + 2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            settings = Settings(
                model=model,
                state_dir=Path(folder),
                min_replicas=options.replicas,
                max_replicas=options.replicas,
            )
            serve.run(application(settings), name="motet")
            urls = {"one process": f"http://127.0.0.1:{alone}", "Ray": f"http://127.0.0.1:{port}"}
            speeds: dict[str, list[float]] = {name: [] for name in urls}
            for turn in range(options.turns + 1):
                for name, url in urls.items():
                    wait_for(url)
                    sizes = options.clients, options.answers, options.tokens
                    speed = tokens_per_second(url, turn, *sizes)
                    if turn:  # the first one warms up
                        speeds[name].append(speed)
        for name, found in speeds.items():
            print(f"{name:12} {statistics.median(found):8.1f} tokens/s (most {max(found):.1f})")
        medians = [statistics.median(found) for found in speeds.values()]
        print(f"{options.replicas} replicas give {medians[1] / medians[0]:.2f} of one process")
    finally:
        server.terminate()
        server.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
