"""Making packed files of models: one that is asked for, or what a cache of them needs."""

from motet.packing.writing import pack

__all__ = ["pack"]
