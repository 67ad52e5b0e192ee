"""A small share of the attack of forks, and how a forked interpreter ends."""

import subprocess
import sys
import textwrap

from tests.hostile import harness
from tests.hostile.forks import case


def test_forks_while_others_decode():
    report = harness.run(case, range(12), seconds=120, memory=6 << 30)
    assert report.answered == 12, report


def test_a_forked_interpreter_ends_quietly():
    """All the way, with objects that threads of its parent hold."""
    code = """
        import os, sys, threading, warnings
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        from motet import LLM
        from motet.cli.demo import shipped_model

        llm = LLM(shipped_model(), threads=3)
        def work():
            while True:
                llm.generate("Once upon a time", max_tokens=20)
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        llm.generate("Once", max_tokens=2)
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print("child", status, flush=True)
            os._exit(0)
        sys.exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")
