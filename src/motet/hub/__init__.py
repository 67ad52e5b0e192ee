"""Models by their address on the Hugging Face Hub, in the cache that all of its tools share."""

from motet.hub.address import Address, is_address
from motet.hub.fetch import local_path

__all__ = ["Address", "is_address", "local_path"]
