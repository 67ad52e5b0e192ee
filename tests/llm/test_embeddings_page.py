"""The examples of ``docs/embeddings.md`` run, against stand-ins for the libraries they are for."""

import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import motet
from tests.models import readers

PAGE = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


class Base:
    """Of LangChain's Embeddings and LlamaIndex's BaseEmbedding what the examples lean on."""

    def __init__(self, **options: Any) -> None:
        self.options = options


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **holds: Any) -> None:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        package = ".".join(parts[:count])
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
    for key, value in holds.items():
        monkeypatch.setattr(sys.modules[name], key, value, raising=False)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's blocks define, run in order in a folder that has its models."""
    monkeypatch.chdir(tmp_path)
    for name in ("bge-small", "e5-small"):
        readers.bert(tmp_path).rename(f"{name}.gguf")
    readers.bert(tmp_path, labels=1).rename("bge-reranker.gguf")
    monkeypatch.setattr(motet.LLM, "embed", _cut(motet.LLM.embed))
    stand_in(monkeypatch, "langchain_core.embeddings", Embeddings=Base)
    stand_in(monkeypatch, "llama_index.core.base.embeddings.base", BaseEmbedding=Base)
    stand_in(monkeypatch, "llama_index.core.bridge.pydantic", PrivateAttr=lambda: None)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
    return names


def _cut(embed: Any) -> Any:
    """The tiny models see few tokens."""

    def cut(self: motet.LLM, text: Any) -> Any:
        return embed(self, text, truncate=True)

    return cut


def test_the_examples(names: dict[str, Any]):
    assert len(BLOCKS) == 4
    assert names["vectors"].shape == (3, 16) and names["scores"].shape == (2,)
    llm, langchain, llama_index = names["llm"], names["embeddings"], names["embedding"]
    texts = ["a dog", "he"]
    for documents in (
        [langchain.embed_documents(texts)],
        [llama_index._get_text_embeddings(texts)],
    ):
        assert len(documents[0]) == 2 and isinstance(documents[0][0][0], float)
    assert np.array_equal(np.float32(langchain.embed_query("he")), llm.embed("query: he")[0])
    assert np.array_equal(np.float32(llama_index._get_text_embedding("he")), llm.embed("he")[0])
    found = asyncio.run(llama_index._aget_query_embedding("he"))
    assert found == llama_index._get_query_embedding("he")
    for each in (llm, names["reranker"], langchain.llm, llama_index._llm):
        each.close()
