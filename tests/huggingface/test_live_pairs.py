"""Cross-encoders made from BERT: a pair's second text is of another token type."""

from pathlib import Path

import numpy as np
import pytest

from motet import LLM
from motet.conversion.convert import convert

torch = pytest.importorskip("torch", reason="needs torch")
transformers = pytest.importorskip("transformers", reason="needs transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "is", "it", "the", "cat", "dog", "a"]
DOCUMENTS = ["the cat", "a dog is the cat", "it is it is it", "who"]


def reranker(folder: Path) -> None:
    """BERT with a classifier of one label, and a vocabulary of words."""
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=0.4,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    reranker(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    theirs = []
    for document in DOCUMENTS:
        pair = tokenizer("who is it", document, return_tensors="pt")
        assert pair["token_type_ids"].max() == 1
        with torch.no_grad():
            theirs.append(float(model(**pair).logits[0, 0]))
    with LLM(folder) as llm:
        ours = llm.rank("who is it", DOCUMENTS)
        alone = [llm.rank("who is it", [document])[0] for document in DOCUMENTS]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.array_equal(ours, alone)
    made = convert(folder, tmp_path / "m.gguf", "f32")
    with LLM(made.files[0]) as llm:
        assert np.array_equal(llm.rank("who is it", DOCUMENTS), ours)
