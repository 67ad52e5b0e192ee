"""What to do about a context that is too short, in the words of the command line."""

from motet.context import position_limit
from motet.errors import UnsupportedError
from motet.evals.variants import require_extendable
from motet.llm import LLM
from motet.model import Model
from motet.self_extend import AutoExtend


def longer_context(llm: LLM, extend: str) -> str:
    """How to have a longer one than ``llm`` has; "" where there is no way.

    ``extend``: what turns Self-Extend on.
    """
    if llm.max_tokens < position_limit(llm.model) or isinstance(llm.self_extend, AutoExtend):
        return "a longer --ctx makes room"
    if llm.self_extend is not None:
        return "a larger group reaches farther"
    return f"{extend} goes on" if is_extendable(llm.model) else ""


def is_extendable(model: Model) -> bool:
    """Whether Self-Extend applies to it."""
    try:
        require_extendable(model)
    except UnsupportedError:
        return False
    return True
