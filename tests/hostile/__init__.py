"""Attacks on Motet: broken files, hostile templates, interrupts, full disks, many threads.

Each module holds one attack and is also a script: `python -m tests.hostile.gguf --count 50000`.
The tests beside them run a small share of each; `harness` says what counts as a failure.
"""
