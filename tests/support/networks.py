"""Small networks of every kind that the ladder has, for tests."""

from typing import Any

import torch

from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.params import BigramNetwork, GPTNetwork, Network

VOCAB_SIZE = 23
CONTEXT = 12

_GPT: dict[str, Any] = {"network": "gpt", "context": CONTEXT, "n_layer": 2, "n_head": 2, "n_embd": 32, "n_hidden": 48}
_GPT |= {"init": "gpt2", "dropout": 0.0}
CLASSIC: dict[str, Any] = {"norm": "layernorm", "positions": "learned", "mlp": "gelu", "qk_norm": False, "bias": True}
MODERN: dict[str, Any] = {"norm": "rmsnorm", "positions": "rotary", "mlp": "swiglu", "qk_norm": True, "bias": False}

CONFIGS: dict[str, Network] = {
    "bigram": BigramNetwork(network="bigram", context=CONTEXT),
    "classic": GPTNetwork(**_GPT, **CLASSIC, tie_embeddings=True),
    "classic-relu-untied": GPTNetwork(**_GPT, **{**CLASSIC, "mlp": "relu", "bias": False}, tie_embeddings=False),
    "modern": GPTNetwork(**_GPT, **MODERN, tie_embeddings=False),
    "modern-plain-tied": GPTNetwork(**_GPT, **{**MODERN, "qk_norm": False}, tie_embeddings=True),
}
GPT_KINDS = [name for name in CONFIGS if name != "bigram"]


def build(kind: str, seed: int = 0) -> networks.LanguageModel:
    """Return the network in evaluation mode, its weights spread enough that logits differ clearly."""
    torch.manual_seed(seed)
    network = networks.build(CONFIGS[kind], VOCAB_SIZE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def build_gpt(kind: str, seed: int = 0) -> GPT:
    """Return `build(kind, seed)` of one of `GPT_KINDS`."""
    network = build(kind, seed)
    assert isinstance(network, GPT)
    return network
