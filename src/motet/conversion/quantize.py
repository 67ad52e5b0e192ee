"""Quantising a model file: another file of the same model, in fewer bits."""

import re
from collections.abc import Callable, Container, Mapping
from os import PathLike

from motet import checks
from motet.conversion.importance import ImportanceMatrix
from motet.conversion.mixes import EMBEDDINGS, OUTPUT, Wishes, assign, mix_of, type_of
from motet.conversion.report import (
    QUANTIZATION_VERSION,
    Conversion,
    Destination,
    require_model,
)
from motet.conversion.retyped import Retyped
from motet.errors import OptionError
from motet.kernels import CPU
from motet.opening import open_model
from motet.weights.formats import TensorType
from motet.weights.source import ModelSource


@checks.named
def quantize(
    model: "str | PathLike[str]",
    out: "str | PathLike[str] | None",
    type: str,
    *,
    imatrix: "str | PathLike[str] | None" = None,
    pure: bool = False,
    leave_output: bool = False,
    tensor_types: Mapping[str, str] | None = None,
    output_type: str | None = None,
    embedding_type: str | None = None,
    allow_requantize: bool = False,
    split_size: int | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write the model, a GGUF file or a Hugging Face directory, to ``out`` in another type.

    ``out``: None for the model's name with the type, in the current folder. ``type``: a mixture,
    such as "Q4_K_M" (``conversion.mixes.MIXES``). ``imatrix``: an importance matrix, of ``motet
    imatrix`` or llama-imatrix. ``pure``: every matrix gets the same type. ``leave_output``: the
    output head stays as it is. ``tensor_types``: types by an expression, for the tensors in whose
    names it is found; the first that is counts. ``output_type``, ``embedding_type``: the types of
    these two. ``allow_requantize``: also what is quantised already, which makes it worse than
    quantising the original. ``split_size``: the most bytes of tensors in one file. ``overwrite``:
    replace a GGUF file at ``out``. ``dry_run``: write nothing. ``progress`` is called with the
    bytes done and the bytes in all.

    ``out`` is there when it is complete, and the same for any number of ``threads``. Raises
    OptionError, ModelFileError, UnsupportedError, NumericalError for weights that are no numbers,
    and CapacityError where the disk lacks the space; ``out`` is then as it was.
    """
    found = checks.path("model", model, "give the path of a GGUF file or a model's directory")
    to = Destination(out, split_size, overwrite, dry_run, progress)
    mix = mix_of(checks.text("type", type))
    wishes = Wishes(
        pure=checks.flag("pure", pure),
        leave_output=checks.flag("leave_output", leave_output),
        tensors=_patterns(tensor_types),
        output=_optional_type("output_type", output_type),
        embedding=_optional_type("embedding_type", embedding_type),
    )
    checks.flag("allow_requantize", allow_requantize)
    kernels = CPU(checks.optional_whole("threads", threads, 1))
    matrix = None
    if imatrix is not None:
        matrix = ImportanceMatrix.read(checks.path("imatrix", imatrix, "give the path of a file"))
    with open_model(found) as source:
        require_model(source)
        important = matrix is not None
        types = assign(source.metadata, source.tensors, mix, wishes, important=important)
        _require_original(source, types, allow_requantize)
        weights = {} if matrix is None else matrix.weights_for(source, types)
        if mix.name == "Q2_K_S" and not dry_run:
            _require_weighed(types, weights)
        made = {**source.metadata, **source.described()}
        made["general.file_type"] = mix.file_type
        made["general.quantization_version"] = QUANTIZATION_VERSION
        made |= {} if matrix is None else matrix.keys()
        retyped = Retyped(source, types, kernels, weights, made)
        reads = () if imatrix is None else (str(imatrix),)
        return to.write(source, retyped, mix.name, weights, reads)


def _optional_type(name: str, value: str | None) -> TensorType | None:
    return None if value is None else type_of(checks.text(name, value), name)


def _patterns(types: Mapping[str, str] | None) -> list[tuple[re.Pattern[str], TensorType]]:
    patterns: list[tuple[re.Pattern[str], TensorType]] = []
    given = {} if types is None else types
    for pattern, type in checks.text_by_name("tensor_types", given).items():
        try:
            patterns.append((re.compile(pattern), type_of(type, "tensor_types")))
        except (re.error, RecursionError, OverflowError) as error:
            raise OptionError(
                f"tensor_types: {checks.shown(pattern)} is not a regular expression: {error}"
            ) from error
    return patterns


def _require_original(
    source: ModelSource, types: Mapping[str, TensorType], requantize: bool
) -> None:
    """Raise OptionError for what is quantised already and would be again, if not ``requantize``."""
    again = [
        info
        for name, info in source.tensors.items()
        if info.type.block > 1 and types[name] is not info.type
    ]
    if again and not requantize:
        raise OptionError(
            f"{source.path}: {len(again)} tensors are quantised already, such as {again[0].name} in"
            f" {again[0].type.name}; to quantise them again adds a second error to the first",
            hint="quantise the original, or give allow_requantize=True",
        )


def _require_weighed(types: Mapping[str, TensorType], weights: Container[str]) -> None:
    """Raise OptionError for a tensor in Q2_K that no importance is known for."""
    for name, type in types.items():
        apart = name == OUTPUT or name in EMBEDDINGS
        if type is TensorType.Q2_K and name not in weights and not apart:
            raise OptionError(
                f"type is Q2_K_S, of no use without an importance matrix, which {name} lacks",
                hint="make one with motet imatrix, or use Q2_K",
            )
