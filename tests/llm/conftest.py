import pytest

from motet.cli.demo import shipped_model
from motet.llm import LLM
from tests.llm.making import make
from tests.scripted import ScriptedModel, saying


@pytest.fixture
def llm():
    with make(ScriptedModel(), max_sequences=4, ubatch=8) as llm:
        yield llm


@pytest.fixture
def parrot():
    with make(ScriptedModel(saying("Yes, it is. Or not.")), max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def tiny():
    with LLM(shipped_model(), max_sequences=5, ubatch=16) as llm:
        yield llm
