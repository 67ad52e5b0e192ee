"""HellaSwag scores by llama.cpp, to compare ``motet hellaswag --json`` with.

Run with a Python that has llama-cpp-python: peer_hellaswag.py MODEL FILE [--tasks N] [--apart].
It does as llama.cpp's tools/perplexity (a beginning shared by four sequences, the mean log
probability of each ending's own tokens), a task at a time in the order of the file, with keys and
values in F32, no flash attention and sums in float64. ``--apart`` gives every ending a batch of its
own with all its tokens: llama.cpp (0.3.36 of the bindings) refuses shared tokens to models without
attention. Give the same tasks to Motet with ``--in-order``.
"""

import argparse
import json
from itertools import takewhile
from pathlib import Path

import llama_cpp as cpp
import numpy as np
from peer_perplexity import _SILENT, tokenize

CONTEXT = 4096
Entry = tuple[int, int, tuple[int, ...], bool]
"""Token, position, sequences, whether its logits are wanted."""


class Peer:
    def __init__(self, path: str, threads: int) -> None:
        cpp.llama_backend_init()
        cpp.llama_log_set(_SILENT, None)
        self.model = cpp.llama_model_load_from_file(path.encode(), cpp.llama_model_default_params())
        self.vocabulary = cpp.llama_model_get_vocab(self.model)
        self.n_vocab = cpp.llama_vocab_n_tokens(self.vocabulary)
        params = cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
        params.n_seq_max, params.kv_unified = 4, True
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = cpp.GGML_TYPE_F32
        params.flash_attn_type = cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = cpp.llama_init_from_model(self.model, params)
        self.batch = cpp.llama_batch_init(CONTEXT, 0, 4)

    def log_probabilities(self, entries: list[Entry]) -> np.ndarray:
        """Float64 [wanted, n_vocab], of a batch on an empty memory."""
        batch = self.batch
        for i, (token, position, seqs, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i] = len(seqs)
            for j, seq in enumerate(seqs):
                batch.seq_id[i][j] = seq
        batch.n_tokens = len(entries)
        cpp.llama_memory_clear(cpp.llama_get_memory(self.context), True)
        if cpp.llama_decode(self.context, batch):
            raise SystemExit("llama_decode refused the batch")
        shape = sum(entry[3] for entry in entries), self.n_vocab
        logits = np.ctypeslib.as_array(cpp.llama_get_logits(self.context), shape)
        logits = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def scores(self, texts: list[list[int]], apart: bool) -> list[float]:
        columns = zip(*texts, strict=False)
        shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
        means = []
        if apart:
            for text in texts:
                entries = [(t, i, (0,), i >= shared - 1) for i, t in enumerate(text[:-1])]
                means.append(_mean(self.log_probabilities(entries), text[shared:]))
            return means
        entries = [(t, i, (0, 1, 2, 3), i == shared - 1) for i, t in enumerate(texts[0][:shared])]
        for seq, text in enumerate(texts):
            rest = enumerate(text[shared:-1], shared)
            entries += [(token, i, (seq,), True) for i, token in rest]
        first, *rows = self.log_probabilities(entries)
        for text in texts:
            count = len(text) - shared - 1
            means.append(_mean(np.array([first, *rows[:count]]), text[shared:]))
            rows = rows[count:]
        return means


def _mean(rows: np.ndarray, targets: list[int]) -> float:
    return float(rows[np.arange(len(targets)), targets].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    peer = Peer(options.model, options.threads)
    lines = Path(options.file).read_text("utf-8").removesuffix("\n").split("\n")
    answers = []
    for number in range(1, min(options.tasks or len(lines), len(lines) // 6) + 1):
        context, gold, *endings = lines[6 * number - 6 : 6 * number]
        texts = [tokenize(peer.vocabulary, f"{context} {ending}".encode()) for ending in endings]
        scores = peer.scores(texts, options.apart)
        chosen = int(np.argmax(scores))
        answers.append({"task": number, "gold": int(gold), "chosen": chosen, "scores": scores})
    correct = sum(answer["chosen"] == answer["gold"] for answer in answers)
    print(json.dumps({"accuracy": correct / len(answers), "answers": answers}))


if __name__ == "__main__":
    main()
