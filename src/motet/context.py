"""Context: memory, and ``decode`` to run batches on it."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from motet import checks
from motet.arrays import Int64
from motet.batch import Batch, Entries
from motet.computing import Decoding, Encoding
from motet.encoding import in_micro_batches, whole_sequences
from motet.errors import BatchError, CapacityError, OptionError, UnsupportedError
from motet.kernels.interface import KV_TYPES
from motet.machine import format_bytes
from motet.memory import Limits, Memory
from motet.memory.budget import context_memory, default_checkpoint_bytes, default_kv_bytes
from motet.memory.transaction import MicroBatchPlan
from motet.memory.validation import sequence_number
from motet.output import Output
from motet.pooling import Pooling, choose_pooling
from motet.runnable import Decodes, Encodes, EncodesForDecoding, Runnable
from motet.self_extend import (
    LONGER,
    AutoExtend,
    ExtendedView,
    SelfExtend,
    check_reach,
    default_context,
    extend,
    require_positions,
    setting_of,
)
from motet.spec import LayerCaches, attention_specs
from motet.split import choose_policy, split
from motet.state import Into, ModelIdentity, Restored, encoded, look, opened, restore, save

_log = logging.getLogger("motet")

_MOST_SEQUENCES = 1 << 16
UNLIMITED = 1 << 31
"""Positions of models that do not attend, and so need not know them; they are int32."""
_MOST_TOKENS = 1 << 32
"""Of models that do not attend, unless ``max_tokens`` is given: as good as no limit."""


class Context:
    """Memory for some sequences of a model, and ``decode`` to go on with them.

    To be used from one thread at a time; several contexts may share a model.
    """

    @checks.named
    def __init__(
        self,
        model: Runnable,
        max_sequences: int = 1,
        max_tokens: int | None = None,
        ubatch: int = 512,
        split: str = "auto",
        kv_type: str = "auto",
        self_extend: SelfExtend | AutoExtend | str | None = None,
        kv_bytes: int | None = None,
        checkpoint_bytes: int | None = None,
        context_length: int | None = None,
        pooling: str | None = None,
    ) -> None:
        """``max_tokens``: held by all sequences together, one that several share counting once;
        by default the model's context for each, which without attention layers is as good as no
        limit. ``ubatch``: tokens computed at once. ``split``: "simple", "equal", "sequence", or
        "auto". ``kv_type``: "f32", "f16", "bf16", "q8_0", or "auto" for what suits the weights.
        ``kv_bytes``: what all caches may take, keys and values and states; by default three
        quarters of the memory that the machine, or the process's control group, has left now.
        Memory is taken as tokens come. Beyond the budget ``decode`` raises CapacityError, after
        checkpoints that nobody asked for were given up.
        ``checkpoint_bytes``: what checkpoints may keep of it, beside what sequences hold; by
        default an eighth. While a batch is computed, those that it drops are still there.
        ``self_extend``: motet.SelfExtend(group, window), motet.AutoExtend() or "auto", for contexts
        longer than the trained one. ``context_length``: positions that a sequence has; by default
        the trained length, or as far as Self-Extend reaches (with "auto" 16 times the trained
        length). More than these is for measuring what becomes of a model there. ``pooling``: what
        becomes of a sequence's states: "none", "mean", "cls", "last", "rank" (a classifier's
        scores); by default what the file says.

        Raises OptionError for a value that makes no sense, CapacityError for sizes that no
        machine has, UnsupportedError where Self-Extend means nothing to the model.
        """
        if not hasattr(model, "family"):
            raise OptionError(
                f"model is {checks.shown(model)}", hint="motet.Model.load(path).context() makes one"
            )
        self.pooling = choose_pooling(pooling, model)
        self._pooling = Pooling(self.pooling, model, len(model.family.caches))
        kv_type = checks.choice("kv_type", kv_type, ("auto", *KV_TYPES))
        self.model = model
        self.max_sequences = checks.whole("max_sequences", max_sequences, 1, _MOST_SEQUENCES)
        self._trained = model.config.context_length
        limit = position_limit(model)
        self._setting = setting_of(self_extend)
        if self._setting is not None:
            require_positions(model.family.caches, model.config.positional)
        wanted = checks.optional_whole("context_length", context_length, 1)
        positions = limit if limit == UNLIMITED else self._positions(wanted)
        if max_tokens is None:
            tokens = self.max_sequences * positions
            max_tokens = min(tokens, _MOST_TOKENS) if limit == UNLIMITED else tokens
        self.max_tokens = checks.whole("max_tokens", max_tokens, 1)
        self._decoder = model.family if isinstance(model.family, Decodes) else None
        """Asked once: a Protocol's methods are looked for one by one."""
        self._longest_encoded = positions if self._decoder is None else self._trained
        self.ubatch = checks.whole("ubatch", ubatch, 1)
        self.split = choose_policy(split)
        self.kv_type = model.default_kv_type if kv_type == "auto" else kv_type
        kv_bytes = _bytes("kv_bytes", kv_bytes, default_kv_bytes)
        checkpoint_bytes = _bytes(
            "checkpoint_bytes", checkpoint_bytes, lambda: default_checkpoint_bytes(kv_bytes)
        )
        limits = Limits(
            self.max_sequences,
            self.max_tokens,
            self.ubatch,
            self.kv_type,
            kv_bytes,
            min(checkpoint_bytes, kv_bytes),
        )
        self._caches = (*model.family.caches, *self._pooling.caches)
        self._decoding = Decoding(model, self._pooling, self._view)
        self._encoding = Encoding(model, self._pooling)
        self._encodes_first = isinstance(model.family, EncodesForDecoding)
        self.memory = Memory(self._caches, model.kernels, limits, positions)
        self._log_memory(min(positions, -(-self.max_tokens // self.max_sequences)))

    @property
    def self_extend(self) -> SelfExtend | AutoExtend | None:
        """What is made of distances beyond the trained ones.

        It may be set at any time, to what reaches as far as memory does: what that holds stays, and
        what is decoded from then on is extended, or no longer. Raises as the constructor does.
        """
        return self._setting

    @self_extend.setter
    def self_extend(self, value: SelfExtend | AutoExtend | str | None) -> None:
        setting = setting_of(value)
        with self.memory.exclusive():
            if setting is not None:
                require_positions(self.model.family.caches, self.model.config.positional)
                check_reach(setting, self._trained, int(self.memory.ends.max()))
            if setting != self._setting:
                self.memory.invalidate_sharing()
                self._setting = setting

    def _log_memory(self, tokens: int) -> None:
        """Say what so many tokens in each sequence come to, and what is allowed."""
        model, sequences = self.model, self.max_sequences
        full = context_memory(model.family.caches, tokens, self.kv_type, model.kernels).total
        _log.info(
            "%d sequence%s of %d tokens: %s of keys, values and states, and %s are allowed",
            sequences,
            "s" * (sequences > 1),
            tokens,
            format_bytes(sequences * full),
            format_bytes(self.memory.kv_bytes),
        )

    def _positions(self, wanted: int | None) -> int:
        """Positions that a sequence has."""
        trained = self._trained
        if self._setting is None:
            if wanted and wanted > trained and self.model.config.positional == "learned":
                raise OptionError(
                    f"context_length is {wanted}, but the model has {trained} learned positions",
                    hint=f"use at most {trained}",
                )
            return wanted or trained
        positions = wanted or default_context(self._setting, trained)
        check_reach(self._setting, trained, positions)
        return positions

    def _view(self, plan: MicroBatchPlan) -> MicroBatchPlan | ExtendedView:
        """What the model's layers see of memory in a micro-batch."""
        if self._setting is None:
            return plan
        extended = extend(self._setting, plan.positions, self._trained)
        return ExtendedView(plan, self._caches, extended)

    def _check_positions(self, positions: np.ndarray) -> None:
        """Raise CapacityError for positions beyond what Self-Extend reaches.

        A context can be longer than that, if the setting is another one than it was made with.
        """
        if self._setting is None:
            return
        last, longest = int(positions.max()), self._setting.longest_context(self._trained)
        if last >= longest:
            raise CapacityError(
                f"position {last} is beyond what Self-Extend with {self._setting} reaches:"
                f" {longest} tokens",
                hint=LONGER,
            )

    def decode(self, batch: Batch) -> Output:
        """Compute the entries of ``batch``, and keep them in the caches.

        All or nothing: when it raises, Ctrl-C included, memory is as before. Raises BatchError,
        with the entry, for a batch that contradicts itself or the memory, CapacityError for one
        that does not fit, NumericalError, with the entries and the layer, if logits, keys or values
        are not finite numbers, UnsupportedError of an encoder, which has no logits. Of an
        encoder-decoder every sequence has to be encoded first, and begins with
        ``model.config.decoder_start`` at position 0.
        """
        checks.instance("batch", batch, Batch, "make a motet.Batch, and add tokens to it")
        family = self._decoder
        if family is None:
            raise UnsupportedError(
                f"{self.model.name} is an encoder: it has no logits, and says nothing further",
                hint="context.encode(batch) gives its hidden states, or a vector of each sequence",
            )
        with self.memory.exclusive():
            entries = batch.entries()
            entries.check(self.model.config.n_vocab, self.memory.ends)
            if self._encodes_first:
                self._require_encoded(entries)
            self._check_positions(entries.positions)
            ubatches = split(entries, self.ubatch, self.split)
            plan = self.memory.plan(ubatches)
            steps = list(zip(ubatches, plan.micro_batches, strict=True))
            plan.begin()
            with np.errstate(all="ignore"):  # what is not finite is looked for in the logits
                output = self._decoding.run(family, entries, steps, self._lengths_with(entries))
            plan.commit()
            return output

    def encode(self, batch: Batch) -> Output:
        """Compute whole sequences of an encoder, each token of which sees all others.

        Of each sequence in ``batch`` all tokens are given, from position 0 on; none is cut, however
        long it is, and nothing is kept. Of an encoder-decoder memory keeps what the decoder attends
        to, in place of what was encoded for these sequences before: all or nothing, as ``decode``.
        Raises BatchError, with the entry, for a batch that contradicts itself, or a sequence that
        was decoded; CapacityError for a sequence longer than the model was trained for, or where
        memory has no room; NumericalError if states, keys or values are not finite numbers,
        UnsupportedError of a model that decodes alone.
        """
        checks.instance("batch", batch, Batch, "make a motet.Batch, and add tokens to it")
        family = self.model.family
        if not isinstance(family, Encodes):
            raise UnsupportedError(
                f"{self.model.name} is no encoder: its tokens see those before them alone",
                hint="use context.decode(batch), which pools too",
            )
        entries = batch.entries()
        entries.check_numbers(self.model.config.n_vocab, self.max_sequences)
        sequences = whole_sequences(entries, self._longest_encoded)
        parts = list(in_micro_batches(entries, sequences, self.ubatch))
        if not self._encodes_first:
            with np.errstate(all="ignore"):
                return self._encoding.run(family, entries, parts)
        with self.memory.exclusive():
            plan = self.memory.plan_encoding(parts)
            plan.begin()
            with np.errstate(all="ignore"):
                output = self._encoding.run(family, entries, parts, plan.micro_batches)
            plan.commit()
            return output

    def _require_encoded(self, entries: Entries) -> None:
        """Raise BatchError for a sequence whose tokens have nothing to attend to, or one that does
        not begin at position 0."""
        _, firsts = np.unique(entries.set_of, return_index=True)
        begun = set(np.flatnonzero(self.memory.ends).tolist())
        for entry in np.sort(firsts).tolist():
            for seq in entries.sets[entries.set_of[entry]]:
                if not self.memory.encoded(seq):
                    raise BatchError(
                        f"nothing was encoded for sequence {seq}, and its tokens attend to that",
                        entry=entry,
                        hint="context.encode(batch) its text first",
                    )
                if seq not in begun and entries.positions[entry]:
                    raise BatchError(
                        f"entry {entry} is position {entries.positions[entry]} of sequence {seq},"
                        " where 0 is due",
                        entry=entry,
                        hint="begin with model.config.decoder_start at position 0",
                    )
                begun.add(seq)

    def _lengths_with(self, entries: Entries) -> Int64:
        """Tokens that each sequence holds once ``entries`` are decoded, where that is needed."""
        if not self._pooling.decodes:
            return self.memory.ends
        lengths = np.array([self.memory.length(s) for s in range(self.max_sequences)])
        for number, count in enumerate(np.bincount(entries.set_of, minlength=len(entries.sets))):
            lengths[list(entries.sets[number])] += count
        return lengths

    def save(
        self,
        file: str | Path | BinaryIO,
        seqs: int | Collection[int] | None = None,
        *,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Write what ``seqs`` hold, by default of all that hold something, to a state file.

        ``file``: a path, at which the old file stays until the new one is whole and on the disk,
        or a binary file object, written from where it stands. ``notes``: strings to be given back
        by ``restore``. Whatever one shares with another is stored once.

        Raises StateFileError where the path cannot be written, OptionError for a sequence that
        there is not or that comes twice; what a file object raises passes through.
        """
        target = checks.file(file, "write")
        said = {} if notes is None else checks.text_by_name("notes", notes)
        with self.memory.exclusive():
            chosen = self.memory.held if seqs is None else self._numbers(seqs)
            export = self.memory.export(chosen)
            save(target, self.memory, self.identity, export, encoded(said))

    def restore(self, file: str | Path | BinaryIO, into: Into = None) -> Restored:
        """Bring back what ``save`` wrote, bit for bit, into sequences that hold nothing.

        ``into``: {saved number: number here} for those to bring back, or a function that is given
        the saved numbers, in the order in which they were saved, and returns that; by default all
        keep their numbers. A file object is read from where it stands to the end of the state.
        The numbers of sequences, ``ubatch``, ``split``, threads and capacity may differ from those
        of the context that saved it; sequences that shared memory share it again.

        All or nothing: when it raises, memory is as before. Raises StateFileError for a file that
        is damaged, is no state file or belongs to another model, tokenizer, settings,
        ``self_extend`` or ``kv_type``; OptionError for an ``into`` that is not possible;
        CapacityError for more tokens than there is room for.
        """
        source = checks.file(file, "read")
        if into is not None and not callable(into):
            checks.mapping("into", into, "{saved number: number here}")
        with self.memory.exclusive(), opened(source) as state:
            return restore(state, self.memory, self.identity, self.model.config.n_vocab, into)

    def notes(self, file: str | Path | BinaryIO) -> dict[str, str]:
        """The notes of a file that ``save`` wrote, with whatever Self-Extend setting.

        Nothing is restored, and a file object stays where it stands. Raises StateFileError as
        ``restore`` does, but finds damage in the file's beginning alone.
        """
        return look(checks.file(file, "read", seeks=True), self.identity).notes

    def _numbers(self, seqs: int | Collection[int]) -> list[int]:
        """Different sequences, as ints; OptionError for one that there is not."""
        if isinstance(seqs, int | np.integer):
            return [sequence_number(seqs, self.max_sequences)]
        chosen = dict[int, None]()
        for each in checks.collection("seqs", seqs, "sequences"):
            seq = sequence_number(each, self.max_sequences)
            if seq in chosen:
                raise OptionError(f"seqs names sequence {seq} twice", hint="give each of them once")
            chosen[seq] = None
        return list(chosen)

    def __repr__(self) -> str:
        extended = f", Self-Extend {self._setting}" if self._setting else ""
        return (
            f"<motet.Context of {self.model.name}: {self.memory.usage}; {self.kv_type} keys and"
            f" values{extended}>"
        )

    @property
    def identity(self) -> ModelIdentity:
        """What state files of this context say of whose they are."""
        return identity(self.model, self._caches, self.kv_type, self._setting)


def identity(
    model: Runnable,
    caches: Sequence[LayerCaches],
    kv_type: str,
    self_extend: SelfExtend | AutoExtend | None = None,
) -> ModelIdentity:
    """What a state file says of whose it is."""
    return ModelIdentity(
        model.fingerprint,
        caches,
        kv_type,
        "none" if self_extend is None else repr(self_extend),
        model.kernels.arithmetic,
    )


def position_limit(model: Runnable) -> int:
    """Tokens that a sequence may have without Self-Extend: those that the model was trained for,
    or UNLIMITED where no layer attends."""
    family = model.family
    if attention_specs(family.caches) or isinstance(family, Encodes):
        return model.config.context_length
    return UNLIMITED


def _bytes(name: str, given: int | None, default: Callable[[], int]) -> int:
    if given is None:
        return default()
    return checks.whole(name, given)
