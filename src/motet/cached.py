"""A property that is computed once."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")
Itself = TypeVar("Itself")


class cached_property(Generic[Value]):
    """As ``functools.cached_property``, without the lock that it has before Python 3.12.

    All objects share that lock, and where another thread held it at a fork, a child waits for it
    for ever. Two threads may compute a value twice, so it must not matter which of them stays.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self: Itself, instance: None, owner: type) -> Itself: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        value = self._compute(instance)
        vars(instance)[self._name] = value
        return value
