"""lm-evaluation-harness' own local-completions, and LangChain, at ``motet serve``."""

import json
import shutil
from collections.abc import Generator

import httpx
import pytest

from motet import LLM, Model
from tests.server.models import TEMPLATE, chatting, embedding
from tests.server.running import serving
from tests.shared import SHARED, needs_shared

STORIES = SHARED / "stories260K"


@pytest.fixture(scope="module")
def chat() -> Generator[httpx.Client]:
    with serving(lambda: chatting(TEMPLATE), embedding) as server:
        yield server


@needs_shared
@pytest.mark.parametrize("concurrent", [1, 4])
def test_the_harness_scores_what_motet_does(concurrent, tmp_path):
    pytest.importorskip("tenacity", reason="needs lm_eval[api]")
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from motet.evals.hellaswag import hellaswag
    from motet.evals.tasks import read_tasks
    from tests.integrations.test_lm_eval import HELLASWAG, evaluated

    directory = tmp_path / "stories"
    shutil.copytree(STORIES / "hf", directory)
    shutil.copy(STORIES / "tok512.model", directory / "tokenizer.model")
    names = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(
        json.dumps({**names, "unk_token": "<unk>", "add_bos_token": True})
    )
    file = tmp_path / "tasks.txt"
    lines = HELLASWAG.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[6 * 20 : 6 * 28], *lines[6 * 164 : 6 * 165]]), "utf-8")
    *_, ours = hellaswag(Model.load(directory), read_tasks(file.read_text("utf-8"), "tasks"))
    with serving(lambda: LLM(directory)) as server:
        lm = LocalCompletionsAPI(
            base_url=f"{server.base_url}/v1/completions",
            model="any",
            tokenizer=str(directory),
            add_bos_token=True,
            num_concurrent=concurrent,
            max_length=512,
        )
        found = evaluated(lm, directory, "motet_hellaswag", file)
    assert found["results"]["motet_hellaswag"]["acc,none"] == ours.accuracy
    for sample, answer in zip(found["samples"]["motet_hellaswag"], ours.answers, strict=True):
        values = [value for value, _ in sample["filtered_resps"]]
        spaces = values[4] if len(values) > 4 else 0.0
        pairs = zip(values, sample["doc"]["lengths"], strict=False)
        assert [(value - spaces) / length for value, length in pairs] == pytest.approx(
            answer.scores, abs=1e-12
        )


def test_langchain_chats_streams_and_embeds(chat):
    langchain = pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    options = {"base_url": f"{chat.base_url}/v1", "api_key": "none", "model": "any"}
    model = langchain.ChatOpenAI(temperature=0, max_tokens=8, **options)
    body = {
        "model": "any",
        "temperature": 0,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    wanted = chat.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert model.invoke("Hello").content == wanted
    assert "".join(chunk.content for chunk in model.stream("Hello")) == wanted
    vectors = langchain.OpenAIEmbeddings(check_embedding_ctx_length=False, **options)
    body = {"model": "any", "input": ["A dog barks."]}
    made = chat.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert vectors.embed_query("A dog barks.") == pytest.approx(made)
