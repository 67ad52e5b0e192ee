"""Is a built wheel what users are to get? `python -m tests.wheel dist/*.whl`"""

import sys
import zipfile
from pathlib import Path, PurePosixPath

KERNELS = {
    "x86_64": {"_cpu", "_baseline", "_avx2", "_avx512", "_amx"},
    "aarch64": {"_cpu", "_neon", "_dotprod", "_i8mm"},
    "arm64": {"_cpu", "_neon", "_dotprod", "_i8mm"},
}
"""The native modules of a wheel, by what its platform ends with; the emulated one is for tests
alone."""
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
    kernels = next((KERNELS[end] for end in KERNELS if platform.endswith(end)), None)
    if kernels is None:
        return [f"there are no kernels for {platform}"]
    found += [f"{stem} is not for users" for stem in sorted({*stems} - kernels)]
    found += [f"{stem} is missing" for stem in sorted(kernels - {*stems})]
    found += [f"{stem} comes more than once" for stem in kernels if stems.count(stem) > 1]
    built_for = "abi3" if abi == "abi3" else f"cpython-{python.removeprefix('cp')}"
    for path in modules:
        suffix = path.name.split(".")[1]
        if not suffix.startswith(built_for):
            found.append(f"{path.name} is not built for {abi}")
        if path.parent != PurePosixPath("motet/kernels"):
            found.append(f"{path} is where nothing looks for it")
    found += [f"{name} is missing" for name in sorted(NEEDED - {*names})]
    found += [f"{name} is source code of the kernels" for name in names if name.endswith("pp")]
    return found


if __name__ == "__main__":
    wrong = [f"{name}: {line}" for name in sys.argv[1:] for line in problems(Path(name))]
    print("\n".join(wrong) or f"{len(sys.argv) - 1} sound")
    sys.exit(bool(wrong))
