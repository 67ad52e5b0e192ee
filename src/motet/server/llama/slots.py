"""/slots: the sequences of the model that writes, as llama-server has them."""

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from motet.engine import SlotState
from motet.errors import ConversationBusy
from motet.sampling import Sampling
from motet.server.failures import Refused
from motet.server.sampling import Asked
from motet.server.service import CurrentService, Service
from motet.server.state_dir import folder_in

router = APIRouter(tags=["llama-server"])

_AGAIN = 0.02
"""Seconds after which a slot that was in use is looked at again."""


class FileBody(Asked):
    """A name in the state directory."""

    filename: Annotated[str, Field(max_length=256)] | None = None


@router.get("/slots")
async def slots(
    service: CurrentService, fail_on_no_slot: Annotated[int, Query()] = 0
) -> list[dict[str, Any]]:
    """What each slot does; with ``fail_on_no_slot=1`` 503 where all are in use."""
    if not service.settings.slots:
        raise Refused(501, "this server says nothing of its slots (--no-slots)")
    served = service.text
    found = await served.llm.slots()
    if fail_on_no_slot and all(slot.busy or slot.kept for slot in found):
        raise Refused(503, "all slots are in use")
    return [_facts(slot, served.context_length, served.llm.speculates) for slot in found]


@router.post("/slots/{slot}")
async def act(
    slot: Annotated[int, Path(ge=0)],
    action: Annotated[Literal["save", "restore", "erase"], Query()],
    service: CurrentService,
    body: FileBody | None = None,
) -> dict[str, Any]:
    """Save what a slot holds, restore it or erase it, once no answer is written in it."""
    llm = service.text.llm
    if slot >= llm.max_sequences:
        raise Refused(400, f"there is no slot {slot}: use 0 to {llm.max_sequences - 1}")
    name = None if body is None else body.filename
    if action != "erase" and not name:
        raise Refused(400, "filename: say which file", param="filename")
    began = time.monotonic()
    while True:
        try:
            facts = await _done(service, slot, action, name or "")
            break
        except ConversationBusy:
            if (await llm.slots())[slot].kept or _late(service, began):
                raise
            await asyncio.sleep(_AGAIN)
    if action != "erase":
        facts["timings"] = {f"{action}_ms": 1000 * (time.monotonic() - began)}
    return {"id_slot": slot, **facts}


async def _done(service: Service, slot: int, action: str, name: str) -> dict[str, Any]:
    """Raises Refused, ConversationBusy and what the LLM does."""
    llm = service.text.llm
    if action == "erase":
        return {"n_erased": await llm.erase_slot(slot)}
    folder = folder_in(service.settings.state_dir, "slots")
    if action == "save":
        path = await asyncio.to_thread(folder.target, name)
        tokens = await llm.save_slot(slot, path)
        size = await asyncio.to_thread(folder.size, name)
        return {"filename": name, "n_saved": tokens, "n_written": size}

    def restore() -> int:
        with folder.explained(name):
            return llm.llm.restore_slot(slot, folder.source(name))[0]

    tokens = await asyncio.to_thread(restore)
    size = await asyncio.to_thread(folder.size, name)
    return {"filename": name, "n_restored": tokens, "n_read": size}


def _late(service: Service, began: float) -> bool:
    most = service.settings.timeout
    return most is not None and time.monotonic() - began > most


def _facts(slot: SlotState, context_length: int, speculates: bool) -> dict[str, Any]:
    answer = slot.answer
    facts: dict[str, Any] = {
        "id": slot.number,
        "n_ctx": context_length,
        "speculative": speculates,
        "is_processing": slot.busy,
        "n_tokens": slot.length,
        "is_conversation": slot.kept,
    }
    if answer is not None:
        facts["params"] = _params(answer.sampling, answer.token_limit)
        facts["n_prompt_tokens"] = answer.prompt_tokens
        facts["n_prompt_tokens_processed"] = answer.computed_tokens
        facts["next_token"] = {
            "has_next_token": True,
            "n_remain": answer.token_limit - answer.tokens,
            "n_decoded": answer.tokens,
        }
    return facts


def _params(sampling: Sampling, token_limit: int) -> dict[str, Any]:
    names = (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_last_n",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
    )
    return {**{name: getattr(sampling, name) for name in names}, "n_predict": token_limit}
