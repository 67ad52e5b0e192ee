"""Putting numbers and a file's own strings on the terminal."""


def size(count: int) -> str:
    """``count`` bytes in the largest binary unit that leaves at least one: ``1.51 GiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.2f} {unit}"


def amount(count: int) -> str:
    """A large number to three figures: ``2.61 B``, ``270 M``."""
    for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= scale:
            value = count / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return str(count)


def printable(text: str) -> str:
    """``text`` with what could steer a terminal, or not be encoded, as escapes; lines stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
