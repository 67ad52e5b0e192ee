"""Which experts a token goes to, and what each of them counts, as data."""

from dataclasses import dataclass

SCORES = ("softmax", "sigmoid", "logits")
WEIGHTS = ("scores", "normalised", "softmax")


@dataclass(frozen=True)
class Routing:
    """How a mixture of experts is chosen from a router's logits, and weighted.

    Experts get a score each; the ``used`` best are taken, of equals the lowest id. A bias, where
    one is given, is added to scores for the choice alone (Wang et al. 2024, arXiv 2408.15664).
    """

    used: int
    """Experts that each token goes to."""
    scores: str = "softmax"
    """"softmax" over all experts, "sigmoid", or the "logits" themselves."""
    groups: int = 1
    """Groups of as many experts each (DeepSeek-AI 2024, arXiv 2405.04434, §2.2.2)."""
    groups_used: int = 1
    """Best groups, from which experts are taken."""
    group_best: int = 1
    """A group is as good as the sum of so many of its best experts, 1 or 2."""
    weights: str = "scores"
    """"scores" as they are, "normalised" (÷ (their sum + ``epsilon``)), or their "softmax"."""
    epsilon: float = 0.0
    scale: float = 1.0
    """Multiplies all weights."""

    def __post_init__(self) -> None:
        if self.scores not in SCORES or self.weights not in WEIGHTS:
            raise ValueError(f"there is no routing by {self.scores!r} and {self.weights!r}")
        if not 1 <= self.groups_used <= self.groups or self.group_best not in (1, 2):
            raise ValueError("groups do not fit each other")

    def fits(self, experts: int) -> bool:
        """Whether there are as many experts as it takes."""
        size, rest = divmod(experts, self.groups)
        return not rest and self.group_best <= size and self.used <= size * self.groups_used
