"""Families beside LLaMA give the answers of plain transformers."""

import asyncio
from pathlib import Path
from typing import Any

import torch
import transformers

from support.checkpoints import write_tokenizer
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.settings import LoadSettings

PROMPT = (5, 9, 40, 17, 20, 33, 8)
TOKENS = 12


def test_a_gpt_neox_answers_as_transformers_does(tmp_path: Path) -> None:
    """Its config names no heads of keys and values: it has as many as of queries."""
    hub: Any = transformers
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ends = {"vocab_size": 64, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
    model = hub.GPTNeoXForCausalLM(hub.GPTNeoXConfig(**sizes, **ends)).float().eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(8)
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    plain = {"do_sample": False, "max_new_tokens": TOKENS, "suppress_tokens": [2], "pad_token_id": 0}
    want = model.generate(torch.tensor([PROMPT]), **plain)[0, len(PROMPT) :].tolist()

    async def answer() -> str:
        engine = BuiltinEngine(LoadSettings(tmp_path, dtype="float32", chat_template="alpaca"))
        await engine.load()
        try:
            asked = GenerationRequest(PROMPT, max_tokens=TOKENS, temperature=0.0, logit_bias=((2, -100.0),))
            async with await engine.submit(asked) as generation:
                return "".join([piece.text async for piece in generation])
        finally:
            await engine.close()

    tokenizer = hub.AutoTokenizer.from_pretrained(tmp_path)
    words = tokenizer.decode(want, skip_special_tokens=True).split()
    assert len(words) > TOKENS / 2
    assert asyncio.run(answer()).replace(" ", "") == "".join(words)  # this tokenizer's words know no spaces
