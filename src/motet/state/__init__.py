"""State files: what sequences hold, written to a file and brought back bit for bit."""

from motet.state.format import FORMAT, ModelIdentity
from motet.state.reading import (
    Contents,
    Into,
    Loaded,
    Restored,
    StateFile,
    look,
    opened,
    restore,
)
from motet.state.writing import encoded, save

__all__ = [
    "FORMAT",
    "Contents",
    "Into",
    "Loaded",
    "ModelIdentity",
    "Restored",
    "StateFile",
    "encoded",
    "look",
    "opened",
    "restore",
    "save",
]
