"""Runs llama.cpp's published server tests against ``motet serve``, as they are.

    python tests/server/published.py llama.cpp/tools/server/tests [-k EXPRESSION] [--peer SERVER]

The directory is that of a checkout of llama.cpp, or of the sources of llama-cpp-python
(``pip download --no-binary :all: --no-deps llama-cpp-python``), under vendor/; its requirements.txt
names what the tests import. The variable STORIES260K names the model of most of them; those that
want files that are not at hand are skipped. With --peer, the same files are given to a real
llama-server. This file is a plugin of pytest too, which writes down how each test ended.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

HERE = Path(__file__).parent
RESULTS = "MOTET_PUBLISHED_RESULTS"
SKIPPED = {77: "needs a download", 78: "needs the router"}
"""What the adapter's statuses mean."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Their session begins with loading every model; here each test that lacks one says so."""
    utils: Any = sys.modules.get("utils")
    if utils is not None:
        utils.ServerPreset.load_all = staticmethod(lambda: None)
        utils.wget.download = _no_download
        utils.ServerProcess.make_request = _by_any_case(utils.ServerProcess.make_request)
        Path("tmp").mkdir(exist_ok=True)  # where their tests write


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Write down how a test ended, and why."""
    report = (yield).get_result()
    if report.when == "call" or report.outcome != "passed":
        if report.when == "teardown" and report.passed:
            return
        why = "" if report.passed else _why(report)
        died = re.search(r"return code (\d+)", why)
        outcome = report.outcome
        if died and int(died[1]) in SKIPPED:
            outcome = "skipped"
        said = re.search(r"llama-server adapter: (.*)", report.capstdout + report.capstderr)
        if died and said:
            why = said[1]
        with Path(os.environ[RESULTS]).open("a") as file:
            file.write(json.dumps([item.nodeid, outcome, why]) + "\n")


def _by_any_case(make_request: Callable[..., Any]) -> Callable[..., Any]:
    """Their requests, with headers whose names are the same in any case, as HTTP has it."""

    def made(*given: Any, **named: Any) -> Any:
        response = make_request(*given, **named)
        response.headers = CaseInsensitiveDict(response.headers)
        return response

    return made


def _no_download(url: str, **_: object) -> None:
    pytest.skip(f"{url} would be downloaded")


def _why(report: Any) -> str:
    if report.skipped:
        return str(report.longrepr[2])
    lines = str(report.longrepr).splitlines()
    found = [line[1:].strip() for line in lines if line.startswith("E ")]
    return found[0][:300] if found else lines[-1][:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tests", type=Path, help="llama.cpp's tools/server/tests")
    parser.add_argument("-k", dest="chosen", help="only tests of these names, as pytest has it")
    parser.add_argument("--peer", help="a real llama-server, given the same files")
    parser.add_argument("--timeout", default="120", help="seconds that a test may take")
    parser.add_argument("--results", type=Path, help="a file for how each test ended, JSON lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        results = options.results or Path(work) / "results"
        results.unlink(missing_ok=True)
        results.touch()
        environment = {
            **os.environ,
            RESULTS: str(results.resolve()),
            "LLAMA_SERVER_BIN_PATH": str(HERE / "llama-server"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(_free_port()),
            "PYTHONPATH": os.pathsep.join(
                [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        if options.peer:
            environment["LLAMA_SERVER"] = options.peer
        command = [sys.executable, "-m", "pytest", "-q", "-p", "published", "--tb=short"]
        command += ["-p", "no:cacheprovider", f"--timeout={options.timeout}"]
        command += ["-m", "not slow"]  # as their tests.sh has it
        command += ["-k", options.chosen] if options.chosen else []
        subprocess.run(command, cwd=options.tests, env=environment, check=False)
        ended = [json.loads(line) for line in results.read_text().splitlines()]
    _show(ended)
    return 0 if ended else 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _show(ended: list[tuple[str, str, str]]) -> None:
    """A table of the files, then what was not passed and why."""
    counts: dict[str, Counter[str]] = {}
    for name, outcome, _ in ended:
        counts.setdefault(name.partition("::")[0].removeprefix("unit/"), Counter())[outcome] += 1
    kinds = ("passed", "failed", "skipped")
    print(f"\n{'file':34}", *(f"{kind:>8}" for kind in kinds))
    for file, count in counts.items():
        print(f"{file:34}", *(f"{count[kind]:8}" for kind in kinds))
    total = sum(counts.values(), Counter[str]())
    print(f"{'all':34}", *(f"{total[kind]:8}" for kind in kinds))
    print(f"{total['passed'] / max(1, total['passed'] + total['failed']):.1%} of those that ran")
    for kind in ("failed", "skipped"):
        print(f"\n{kind}:")
        for name, outcome, why in ended:
            if outcome == kind:
                print(f"  {name.partition('unit/')[2]}: {why}")


if __name__ == "__main__":
    sys.exit(main())
