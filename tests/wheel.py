"""Is a built wheel what users are to get? `python -m tests.wheel dist/*.whl`"""

import sys
import zipfile
from pathlib import Path, PurePosixPath

KERNELS = {"_cpu", "_baseline", "_avx2", "_avx512", "_amx"}
"""The native modules of a wheel; the emulated one is for tests alone."""
NEEDED = {
    "motet/__init__.py",
    "motet/py.typed",
    "motet/data/motet-tiny.gguf",
    "motet/server/page/files/index.html",
    "motet/server/page/files/main.js",
    "motet/server/page/files/base.css",
    "motet/server/page/files/icon.svg",
}


def problems(wheel: Path) -> list[str]:
    """What is wrong with the files in a wheel, by its name; nothing if it is sound."""
    _, _, python, abi, platform = wheel.stem.split("-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found: list[str] = []
    modules = [PurePosixPath(name) for name in names if name.endswith(".so")]
    stems = [path.name.split(".")[0] for path in modules]
    found += [f"{stem} is not for users" for stem in sorted({*stems} - KERNELS)]
    found += [f"{stem} is missing" for stem in sorted(KERNELS - {*stems})]
    found += [f"{stem} comes more than once" for stem in KERNELS if stems.count(stem) > 1]
    built_for = "abi3" if abi == "abi3" else f"cpython-{python.removeprefix('cp')}"
    for path in modules:
        suffix = path.name.split(".")[1]
        if not suffix.startswith(built_for):
            found.append(f"{path.name} is not built for {abi}")
        if path.parent != PurePosixPath("motet/kernels"):
            found.append(f"{path} is where nothing looks for it")
    found += [f"{name} is missing" for name in sorted(NEEDED - {*names})]
    found += [f"{name} is source code of the kernels" for name in names if name.endswith("pp")]
    if not platform.endswith("x86_64"):
        found.append(f"the kernels are for x86-64, not {platform}")
    return found


if __name__ == "__main__":
    wrong = [f"{name}: {line}" for name in sys.argv[1:] for line in problems(Path(name))]
    print("\n".join(wrong) or f"{len(sys.argv) - 1} sound")
    sys.exit(bool(wrong))
