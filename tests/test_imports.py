"""The house rule: imports run downward only."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "motet"
FLOORS = [
    {"errors", "spec", "arrays", "system", "cached"},
    {"machine"},
    {"checks", "replacing", "bounded_json"},
    {"weights", "hub"},
    {"kernels", "packed"},
    {"tokenizer"},
    {"chat_formats", "grammar"},
    {"huggingface"},
    {"opening"},
    {"conversion"},
    {"memory", "models"},
    {"batch", "runnable", "state", "finite"},
    {"split", "encoding", "pooling", "output"},
    {"computing"},
    {"self_extend"},
    {"packing"},
    {"model"},
    {"context"},
    {"sampling"},
    {"speculation"},
    {"engine"},
    {"front", "embedding"},
    {"llm"},
    {"async_llm"},
    {"evals"},
    {"server"},
    {"cli"},
    {"integrations"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
UPWARD = {("model", "context")}
"""Model.context is the contract's way to make a context; it imports it when called."""


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("motet.")}
    return rooms & FLOOR.keys()


def test_every_room_has_a_floor() -> None:
    rooms = {p.stem for p in SOURCE.glob("*.py")} | {p.parent.name for p in SOURCE.glob("*/*.py")}
    assert rooms - {"__init__", "__main__"} == FLOOR.keys()


def test_imports_run_downward() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        for other in imported_rooms(path) - {room}:
            if FLOOR[other] >= FLOOR[room] and (room, other) not in UPWARD:
                wrong.append(f"{path.relative_to(SOURCE)} imports {other}")
    assert not wrong
