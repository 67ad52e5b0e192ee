"""Perplexity of a text by llama.cpp, to compare ``motet perplexity`` with.

Run with a Python that has llama-cpp-python: peer_perplexity.py MODEL TEXT [--ctx 512] [--chunks N].
The definition is that of llama.cpp's tools/perplexity: BOS at each chunk's start where the
vocabulary wants one, positions ctx/2 to ctx-2 of each chunk scored. One chunk is one sequence in
one batch, keys and values are kept in F32 without flash attention (which rounds them to F16 on
a CPU), and the sums are in float64.
"""

import argparse
import json
import math
from pathlib import Path

import llama_cpp as cpp
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    cpp.llama_backend_init()
    cpp.llama_log_set(_SILENT, None)
    model = cpp.llama_model_load_from_file(options.model.encode(), cpp.llama_model_default_params())
    context = _context(model, options)
    vocabulary = cpp.llama_model_get_vocab(model)
    tokens = tokenize(vocabulary, Path(options.text).read_bytes())
    n_vocab = cpp.llama_vocab_n_tokens(vocabulary)
    bos = cpp.llama_vocab_bos(vocabulary) if cpp.llama_vocab_get_add_bos(vocabulary) else None
    chunks = min(len(tokens) // options.ctx, options.chunks or len(tokens))
    means = []
    for i in range(chunks):
        chunk = tokens[i * options.ctx : (i + 1) * options.ctx]
        means.append(float(score(context, chunk, bos, n_vocab).mean()))
    nll = math.fsum(means) / len(means)
    scored = chunks * (options.ctx - options.ctx // 2 - 1)
    result = {"perplexity": math.exp(nll), "nll": nll, "tokens": scored, "chunks": means}
    print(json.dumps(result | {"text_tokens": len(tokens)}))


@cpp.llama_log_callback
def _SILENT(level, text, user_data):
    del level, text, user_data


def _context(model, options: argparse.Namespace):
    params = cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = options.ctx
    params.n_threads = params.n_threads_batch = options.threads
    params.type_k = params.type_v = cpp.GGML_TYPE_F32
    params.flash_attn_type = cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return cpp.llama_init_from_model(model, params)


def tokenize(vocabulary, text: bytes) -> list[int]:
    """With the special tokens that the vocabulary adds, without parsing any in the text."""
    ids = (cpp.llama_token * (len(text) + 2))()
    count = cpp.llama_tokenize(vocabulary, text, len(text), ids, len(ids), True, False)
    return list(ids[:count])


def score(context, chunk: list[int], bos: int | None, n_vocab: int) -> np.ndarray:
    """Negative log probabilities of the second half's tokens, float64."""
    count, half = len(chunk), len(chunk) // 2
    batch = cpp.llama_batch_init(count, 0, 1)
    batch.n_tokens = count
    for i, token in enumerate(chunk):
        batch.token[i] = bos if i == 0 and bos is not None else token
        batch.pos[i], batch.n_seq_id[i], batch.logits[i] = i, 1, i >= half
        batch.seq_id[i][0] = 0
    cpp.llama_memory_clear(cpp.llama_get_memory(context), True)
    if cpp.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")
    cpp.llama_batch_free(batch)
    rows = np.ctypeslib.as_array(cpp.llama_get_logits(context), (count - half, n_vocab))
    logits = rows[:-1].astype(np.float64)
    targets = np.array(chunk[half + 1 :])
    highest = logits.max(axis=1)
    log_sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return log_sums - logits[np.arange(len(targets)), targets]


if __name__ == "__main__":
    main()
