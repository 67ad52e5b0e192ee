"""What is made of pooled states: a classifier's number for each label (a reranker's score)."""

from typing import Protocol

from motet.arrays import Float32
from motet.errors import UnsupportedError
from motet.kernels.interface import Kernels
from motet.models.tensors import TensorReader

_DENSE, _OUT = "cls.weight", "cls.output.weight"


class PooledHead(Protocol):
    """What pooled states go through."""

    @property
    def outputs(self) -> int:
        """Numbers that come out; d_model where it is a vector."""
        ...

    def forward(self, x: Float32) -> Float32:
        """``[S, d_model]`` to as many rows."""
        ...


class Classifier:
    """output(norm(activation(dense(x)))), of which the file may lack dense, norm and biases.

    ``shares``: the numbers go through a softmax (yes or no), instead of being raw.
    """

    def __init__(
        self,
        tensors: TensorReader,
        kernels: Kernels,
        d: int,
        *,
        activation: str,
        shares: bool,
        norm_eps: float,
    ) -> None:
        self._kernels = kernels
        self._activation, self._shares, self._eps = activation, shares, norm_eps
        self.outputs = labels = tensors.rows(_OUT)
        self.dense = tensors.optional_matrix(_DENSE, d, d)
        self.dense_bias = tensors.optional_array("cls.bias", d) if self.dense else None
        self.norm = tensors.optional_array("cls.norm.weight", d)
        self.output = tensors.matrix(_OUT, labels, d)
        self.output_bias = tensors.optional_array("cls.output.bias", labels)

    def forward(self, x: Float32) -> Float32:
        """Pooled states ``[S, d_model]`` to ``[S, n_labels]``."""
        kernels = self._kernels
        if self.dense is not None:
            (x,) = kernels.linear(x, self.dense, biases=(self.dense_bias,))
            x = kernels.activate(x, self._activation)
        if self.norm is not None:
            x = kernels.layer_norm(x, self.norm, None, self._eps)
        (scores,) = kernels.linear(x, self.output, biases=(self.output_bias,))
        if self._shares:
            scores = kernels.softmax(scores)
        return scores


def read_classifier(
    tensors: TensorReader,
    kernels: Kernels,
    d: int,
    *,
    activation: str = "tanh",
    shares: bool = False,
    norm_eps: float = 1e-5,
) -> dict[str, PooledHead]:
    """The file's classifier, if it has one, as the head of the pooling "rank"."""
    if tensors.has(_OUT):
        head = Classifier(
            tensors, kernels, d, activation=activation, shares=shares, norm_eps=norm_eps
        )
        return {"rank": head}
    if tensors.has(_DENSE):
        raise UnsupportedError(
            f"the file has {_DENSE} without {_OUT}: its pooler was lost when it was converted",
            hint="without it scores are not the model's; use a file of another reranker",
        )
    return {}
