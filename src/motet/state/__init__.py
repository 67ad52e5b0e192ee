"""State files: what sequences hold, written to a file and brought back bit for bit."""

from motet.state.file import Into, Restored, look, restore, save
from motet.state.format import FORMAT, ModelIdentity

__all__ = ["FORMAT", "Into", "ModelIdentity", "Restored", "look", "restore", "save"]
