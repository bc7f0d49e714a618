"""The networks that are measured, with random weights (fixed seed), as a folder that every peer can read.

Our modern network with QK-norm, which is Qwen3's architecture; 96 tokens, like the characters of an English book. The
folder is a Hugging Face model, with our configuration (network.json) and weights beside it. Token 0 is never the
likeliest, so that a runtime which insists on a token that ends a text can have it.
"""

import json
import string
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gptmodel import files
from gptmodel.data.fitting import fit_char
from gptmodel.export import hf
from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.params import GPTNetwork

CONTEXT, VOCAB_SIZE = 1024, 96
SIZES = {  # layers, heads, width, MLP width
    "10m": (6, 6, 384, 1024),
    "85m": (12, 12, 768, 2048),
}
NEVER = 0  # the unknown token: its logit is 0, which is never the largest
SPREAD = 3.0  # times the first weights: the logits differ clearly, so that rounding changes no greedy token
OURS, CONFIG = "ours.safetensors", "network.json"


def build(size: str) -> GPT:
    """Return the network of a size, in evaluation mode."""
    n_layer, n_head, n_embd, n_hidden = SIZES[size]
    config = GPTNetwork(
        network="gpt",
        context=CONTEXT,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        n_hidden=n_hidden,
        norm="rmsnorm",
        positions="rotary",
        mlp="swiglu",
        qk_norm=True,
        bias=False,
        tie_embeddings=False,
        init="gpt2",
        dropout=0.0,
    )
    torch.manual_seed(0)
    network = GPT(config, VOCAB_SIZE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 2:
                parameter.mul_(SPREAD)
        network.head.weight[NEVER] = 0
    return network


def write(folder: Path, size: str) -> int:
    """Write the folder; return the number of parameters."""
    network = build(size)
    with files.whole_folder(folder) as partial:
        # no model card: nobody trained it
        hf._write_model(partial, network, hf.QWEN3, fit_char(string.printable[: VOCAB_SIZE - 1], min_count=1))
        save_file(networks.weights(network), partial / OURS)
        files.write_json(partial / CONFIG, network.config.model_dump(mode="json"))
    return networks.count_parameters(network)


def load(folder: Path, device: str = "cpu") -> GPT:
    """Return the network that `write` left in the folder."""
    config = GPTNetwork(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    network = GPT(config, VOCAB_SIZE).eval()
    network.load_state_dict(load_file(folder / OURS))
    return network.to(device)
