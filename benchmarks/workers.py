"""Engines behind one small interface, each in a process of its own, for runs that interleave them.

A worker reads one JSON command a line and answers with seconds (or what it measured). It is run as
`python workers.py motet|llama_cpp|torch MODEL THREADS` by the Python that has the engine installed.
"""

import json
import sys
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np

CONTEXT = 8192


def some_tokens(count: int, n_vocab: int) -> list[int]:
    return np.random.default_rng(count).integers(10, n_vocab, count).tolist()


class Motet:
    def __init__(self, path: str, threads: int) -> None:
        from motet import Batch, Model

        self.batch = Batch
        self.model = Model.load(path, threads=threads)
        self.n_vocab = self.model.config.n_vocab
        self.encodes = self.model.config.decoder_start is not None
        self.context = self.model.context(max_sequences=16, max_tokens=CONTEXT)

    def clear(self) -> None:
        self.context.memory.clear()

    def step(self, runs: list[tuple[int, int, list[int]]]) -> None:
        """Decode (sequence, position, tokens) runs, with the logits of each one's last token."""
        batch = self.batch()
        for seq, start, tokens in runs:
            batch.extend(tokens, start, seq)
        self.context.decode(batch)

    def encode(self, runs: list[tuple[int, int, list[int]]]) -> None:
        """Encode the tokens of sequences, to be decoded."""
        batch = self.batch()
        for seq, start, tokens in runs:
            batch.extend(tokens, start, seq)
        self.context.encode(batch)

    def facts(self) -> dict:
        from motet.kernels import CPU

        kernels = self.model.kernels
        assert isinstance(kernels, CPU)
        return {
            "bytes_per_token": self.model.bytes_per_token,
            "encodes": self.encodes,
            "isa": kernels.isa,
            "read_gb_s": kernels.read_bandwidth(),
        }


class LlamaCpp:
    flash = -1  # flash attention: what llama.cpp chooses

    def __init__(self, path: str, threads: int) -> None:
        import llama_cpp as ll

        self.ll = ll
        ll.llama_backend_init()
        model_options = ll.llama_model_default_params()
        self.model = ll.llama_model_load_from_file(path.encode(), model_options)
        options = ll.llama_context_default_params()
        options.n_ctx = CONTEXT
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = 16
        options.kv_unified = True
        options.flash_attn_type = self.flash
        options.n_threads = options.n_threads_batch = threads
        self.context = ll.llama_init_from_model(self.model, options)
        self.encodes = ll.llama_model_has_encoder(self.model)
        self.n_vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.batch = ll.llama_batch_init(512, 0, 1)

    def clear(self) -> None:
        self.ll.llama_memory_clear(self.ll.llama_get_memory(self.context), True)

    def step(self, runs: list[tuple[int, int, list[int]]]) -> None:
        if self.ll.llama_decode(self.context, self._batch(runs)) != 0:
            raise RuntimeError("llama_decode failed")
        self.ll.llama_get_logits_ith(self.context, -1)

    def encode(self, runs: list[tuple[int, int, list[int]]]) -> None:
        if self.ll.llama_encode(self.context, self._batch(runs)) != 0:
            raise RuntimeError("llama_encode failed")
        self.ll.llama_synchronize(self.context)

    def _batch(self, runs: list[tuple[int, int, list[int]]]):
        batch, n = self.batch, 0
        for seq, start, tokens in runs:
            for i, token in enumerate(tokens):
                batch.token[n], batch.pos[n] = token, start + i
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, seq
                batch.logits[n] = i == len(tokens) - 1
                n += 1
        batch.n_tokens = n
        return batch

    def facts(self) -> dict:
        return {"system": self.ll.llama_print_system_info().decode().strip()}


class Torch:
    """Hugging Face's model of the same shape, of random BF16 weights: for speed, not for logits."""

    encodes = False

    def __init__(self, path: str, threads: int) -> None:
        import gguf
        import torch
        import transformers

        self.torch = torch
        torch.set_num_threads(threads)
        reader = gguf.GGUFReader(path)
        kind = str(reader.fields["general.architecture"].contents())
        of = {name: field.contents() for name, field in reader.fields.items()}
        classes = {
            "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
            "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        }
        if kind not in classes:
            raise SystemExit(f"torch is measured on {', '.join(classes)} alone, not on {kind}")
        config, model = classes[kind]
        self.n_vocab = int(of[f"{kind}.vocab_size"])
        shape = config(
            vocab_size=self.n_vocab,
            hidden_size=of[f"{kind}.embedding_length"],
            intermediate_size=of[f"{kind}.feed_forward_length"],
            num_hidden_layers=of[f"{kind}.block_count"],
            num_attention_heads=of[f"{kind}.attention.head_count"],
            num_key_value_heads=of[f"{kind}.attention.head_count_kv"],
            head_dim=of[f"{kind}.attention.key_length"],
            max_position_embeddings=of[f"{kind}.context_length"],
            tie_word_embeddings=True,
        )
        torch.set_default_dtype(torch.bfloat16)
        self.model = model(shape).eval()
        self.clear()

    def clear(self) -> None:
        self.past: dict[int, object] = {}

    def step(self, runs: list[tuple[int, int, list[int]]]) -> None:
        """One sequence after the other: lengths may differ."""
        with self.torch.inference_mode():
            for seq, _, tokens in runs:
                ids = self.torch.tensor([tokens])
                past = self.past.get(seq)
                out = self.model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
                self.past[seq] = out.past_key_values

    def encode(self, runs: list[tuple[int, int, list[int]]]) -> None:
        raise NotImplementedError

    def facts(self) -> dict:
        return {"system": f"torch {self.torch.__version__}"}


def run(
    engine: Motet | LlamaCpp | Torch,
    clock: Callable[[], float],
    what: str,
    size: int,
    parallel: int,
    before: int,
) -> float:
    """Seconds of `size` tokens of prefill or encoding, or of `size` steps of `parallel` sequences.

    `before`: tokens that each of these goes on from, or that are encoded for it.
    """
    engine.clear()
    if what != "decode":
        tokens = some_tokens(size, engine.n_vocab)
        start = clock()
        (engine.step if what == "prefill" else engine.encode)([(0, 0, tokens)])
        return clock() - start
    prompt = some_tokens(before, engine.n_vocab)
    if engine.encodes:
        engine.encode([(seq, 0, prompt) for seq in range(parallel)])
        before = 0
    else:
        for seq in range(parallel):
            engine.step([(seq, 0, prompt)])
    tokens = some_tokens(parallel * size, engine.n_vocab)
    start = clock()
    for i in range(size):
        engine.step([(s, before + i, [tokens[i * parallel + s]]) for s in range(parallel)])
    return clock() - start


def main() -> None:
    name, path, threads = sys.argv[1:4]
    start = perf_counter()
    engine = {"motet": Motet, "llama_cpp": LlamaCpp, "torch": Torch}[name](path, int(threads))
    # Of one thread, without what other programs take of its core.
    clock = process_time if threads == "1" else perf_counter
    print(json.dumps({"load": perf_counter() - start}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["what"] == "facts":
            print(json.dumps(engine.facts()), flush=True)
        else:
            print(json.dumps(run(engine, clock, **command)), flush=True)


if __name__ == "__main__":
    main()
