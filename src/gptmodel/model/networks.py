"""From a network's section of params.yaml to the network."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT
from gptmodel.params import BigramModel, BigramNetwork, GPTNetwork, Model, Network

EMBEDDING, HEAD = "token_embedding.weight", "head.weight"  # one tensor where they are tied
LanguageModel = Bigram | GPT  # both: (ids_BT, cache) -> (logits_BTV, cache)


class HiddenMatrix(NamedTuple):
    """A matrix between the embedding and the output, by the name of its parameter."""

    name: str
    weight: nn.Parameter
    parts: int  # how many matrices it holds, one below the other: 3 for queries, keys and values


def architecture(model: Model) -> Network:
    """Return what of an entry of `models:` defines the network."""
    kind = BigramNetwork if isinstance(model, BigramModel) else GPTNetwork
    return kind.model_validate(model.model_dump(include=set(kind.model_fields)))


def build(config: Network, vocab_size: int) -> LanguageModel:
    """Return the network with freshly drawn weights (torch's global generator)."""
    if isinstance(config, BigramNetwork):
        return Bigram(config, vocab_size)
    return GPT(config, vocab_size)


def weights(network: LanguageModel) -> dict[str, Tensor]:
    """Return the learned tensors by name, each once: a tied output layer is the token embedding."""
    tensors = dict(network.state_dict())
    if _is_tied(network):
        del tensors[HEAD]
    return tensors


def load_weights(network: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Give the network learned tensors as `weights` returns them; `RuntimeError` names those that do not fit."""
    if _is_tied(network) and EMBEDDING in tensors:
        tensors = {**tensors, HEAD: tensors[EMBEDDING]}
    network.load_state_dict(tensors)


def hidden_matrices(network: LanguageModel) -> list[HiddenMatrix]:
    """Return the matrices of the blocks, in the order of the data: those that Muon is made for. A bigram has none."""
    if not isinstance(network, GPT):
        return []
    matrices = []
    for number, block in enumerate(network.layers):
        for name, parameter in block.named_parameters(prefix=f"blocks.{number}"):
            if parameter.dim() == 2:
                parts = 3 if parameter is block.attention.qkv.weight else 1
                matrices.append(HiddenMatrix(name, parameter, parts))
    return matrices


def _is_tied(network: LanguageModel) -> bool:
    return isinstance(network, GPT) and network.config.tie_embeddings


def count_parameters(network: LanguageModel) -> int:
    """Return the number of learned values, shared ones once."""
    return sum(tensor.numel() for tensor in weights(network).values())


def flops_per_token(network: LanguageModel) -> float:
    """Return the floating-point operations per token of a training step (forward and backward).

    6 per weight of a matrix that the token is multiplied with, and 6 n_layer context n_embd for the causal attention
    (PaLM, Chowdhery et al. 2022, appendix B, which counts the masked half too). A bigram looks up: 0.
    """
    if not isinstance(network, GPT):
        return 0.0
    config = network.config
    multiplied = sum(p.numel() for p in network.blocks.parameters() if p.dim() == 2) + network.head.weight.numel()
    return 6.0 * (multiplied + config.n_layer * config.context * config.n_embd)
