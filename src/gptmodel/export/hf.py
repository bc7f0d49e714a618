"""A network and its tokenizer as the folder that Hugging Face transformers loads by name, without code of ours.

The classic network is GPT-2; the modern one is Qwen3 with QK-norm and Llama without. Weights are renamed, cut and
transposed, never computed with, so the logits are those of `gpt.GPT` up to rounding. Other combinations of fields, and
the bigram, have no architecture there; their folder says so.

No token begins or ends a text, so that generation stops at a length: the context. Batches are padded on the left with
a token that no text has, and which is not read out of a text that spells it. At char level the tokenizer replaces
unknown characters by their plain forms, as `prompts` does, as far as `REPLACED` goes.

Left out on purpose: the window that moves on past the context (transformers has none without code of ours).
Sources: transformers, `models/{gpt2,llama,qwen3}/{configuration,modeling}_*.py` and `tokenization_utils_base.py`.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
from safetensors.torch import save as serialize
from tokenizers import Regex, normalizers
from torch import Tensor

from gptmodel import files
from gptmodel.data.tokenizer import UNKNOWN, Tokenizer, byte_letters
from gptmodel.decoding import prompts
from gptmodel.export import model_card
from gptmodel.export.model_card import Results
from gptmodel.model import networks
from gptmodel.model.gpt import GPT, LAYER_NORM_EPS, RMS_NORM_EPS, ROPE_BASE
from gptmodel.model.networks import LanguageModel
from gptmodel.params import GPTNetwork, Network

GPT2, LLAMA, QWEN3 = "GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM"
_NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

# Latin letters and accents, punctuation, the minus sign, the ligatures of f; each rule costs time at every text.
REPLACED = [*range(0x370), *range(0x1E00, 0x1F00), *range(0x2000, 0x2070), 0x2212, *range(0xFB00, 0xFB07)]

# The values of the fields that an architecture can express.
_LIKE_GPT2: dict[str, tuple[Any, ...]] = {
    "norm": ("layernorm",),
    "positions": ("learned",),
    "mlp": ("gelu", "relu"),
    "qk_norm": (False,),
    "bias": (False, True),
}
_LIKE_LLAMA: dict[str, tuple[Any, ...]] = {
    "norm": ("rmsnorm",),
    "positions": ("rotary",),
    "mlp": ("swiglu",),
    "qk_norm": (False, True),
    "bias": (False,),
}

# Their word for each word of ours in the dotted name of a tensor; other words are the same.
_GPT2_WORDS = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "blocks": "transformer.h",
    "attention_norm": "ln_1",
    "attention": "attn",
    "qkv": "c_attn",
    "out": "c_proj",
    "mlp_norm": "ln_2",
    "up": "c_fc",
    "down": "c_proj",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
_LLAMA_WORDS = {
    "token_embedding": "model.embed_tokens",
    "blocks": "model.layers",
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "out": "o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "final_norm": "model.norm",
    "head": "lm_head",
}


def architecture(network: LanguageModel) -> str | None:
    """Return the transformers architecture that computes what `network` does, None if there is none."""
    if not isinstance(network, GPT) or _obstacles(network.config):
        return None
    if network.config.norm == "layernorm":
        return GPT2
    return QWEN3 if network.config.qk_norm else LLAMA


def write_folder(folder: Path, network: LanguageModel, tokenizer: Tokenizer, results: Results) -> None:
    """Write what transformers loads and a model card, or a README.md that says why it cannot: whole or not at all.

    The files are config.json, generation_config.json, model.safetensors (fp32) and the tokenizer. An older `folder` is
    replaced when the new one is complete.
    """
    name = architecture(network)
    with files.whole_folder(folder) as partial:
        if isinstance(network, GPT) and name:
            _write_model(partial, network, name, tokenizer)
            card = model_card.hf_card(results, name)
        else:
            card = model_card.no_architecture_card(results, _obstacles(network.config))
        files.write_text(partial / model_card.CARD, card)


def _write_model(folder: Path, network: GPT, architecture: str, tokenizer: Tokenizer) -> None:
    renamed = _gpt2_weights(network) if architecture == GPT2 else _llama_weights(network)
    weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in renamed}
    (folder / "model.safetensors").write_bytes(serialize(weights, metadata={"format": "pt"}))
    files.write_json(folder / "config.json", _config(network, architecture))
    padding = _padding(tokenizer)
    files.write_json(folder / "generation_config.json", _generation_config(tokenizer, padding, network.context))
    files.write_text(folder / "tokenizer.json", _tokenizer(tokenizer))
    files.write_json(folder / "tokenizer_config.json", _tokenizer_config(padding, network.context))


def _obstacles(config: Network) -> list[str]:
    """Return what keeps a network from the architecture nearest to it, each as "field: value"; empty if it fits."""
    if not isinstance(config, GPTNetwork):
        return [f"network: {config.network}"]
    unlike = [
        [
            f"{field}: {str(value).lower()} (not {' or '.join(str(fit).lower() for fit in fitting)})"
            for field, fitting in family.items()
            if (value := getattr(config, field)) not in fitting
        ]
        for family in (_LIKE_GPT2, _LIKE_LLAMA)
    ]
    return min(unlike, key=len)


def _rename(name: str, words: dict[str, str]) -> str:
    """Return a tensor's name in their words.

    >>> _rename("blocks.0.attention.out.weight", _LLAMA_WORDS)
    'model.layers.0.self_attn.o_proj.weight'
    """
    return ".".join(words.get(word, word) for word in name.split("."))


def _gpt2_weights(network: GPT) -> Iterator[tuple[str, Tensor]]:
    """Yield GPT-2's tensors: linear layers transposed (its Conv1D is x @ W), biases that we lack as zeros."""
    ours = networks.weights(network)
    for name, tensor in ours.items():
        linear = name.startswith("blocks.") and tensor.dim() == 2
        yield _rename(name, _GPT2_WORDS), tensor.T if linear else tensor
        bias = name.removesuffix("weight") + "bias"
        if name.startswith(("blocks.", "final_norm.")) and name.endswith(".weight") and bias not in ours:
            yield _rename(bias, _GPT2_WORDS), torch.zeros(len(tensor))


def _llama_weights(network: GPT) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of Llama or Qwen3: queries, keys and values are matrices of their own."""
    for name, tensor in networks.weights(network).items():
        theirs = _rename(name, _LLAMA_WORDS)
        if ".qkv." in theirs:
            for projection, part in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
                yield theirs.replace("qkv", projection), part
        else:
            yield theirs, tensor


def _config(network: GPT, architecture: str) -> dict[str, Any]:
    """Return config.json; where transformers has a default that is not ours (token ids, dropout), ours is written."""
    config = network.config
    both = _NO_SPECIAL_TOKENS | {
        "architectures": [architecture],
        "torch_dtype": "float32",
        "vocab_size": network.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if architecture == GPT2:
        return both | {
            "model_type": "gpt2",
            "n_positions": config.context,
            "n_ctx": config.context,  # llama.cpp and MLX read this name
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_embd": config.n_embd,
            "n_inner": config.n_hidden,
            "activation_function": {"gelu": "gelu_new", "relu": "relu"}[config.mlp],  # gelu_new: the tanh form
            "layer_norm_epsilon": LAYER_NORM_EPS,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }
    return both | {
        "model_type": {LLAMA: "llama", QWEN3: "qwen3"}[architecture],
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "head_dim": network.head_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_hidden,
        "hidden_act": "silu",
        "rms_norm_eps": RMS_NORM_EPS,
        "rope_theta": ROPE_BASE,
        "attention_bias": False,
        "attention_dropout": 0.0,
    }


class Padding(NamedTuple):
    """The token that makes the texts of a batch equally long."""

    token: str
    id: int


def _padding(tokenizer: Tokenizer) -> Padding:
    """Return a token that no text has: the unknown one, or the byte 0."""
    if tokenizer.unknown_id is not None:
        return Padding(UNKNOWN, tokenizer.unknown_id)
    [zero] = tokenizer.encode("\0").tolist()
    return Padding(byte_letters()[0], zero)


def _generation_config(tokenizer: Tokenizer, padding: Padding, context: int) -> dict[str, Any]:
    """Return generation_config.json: text ends with the context, and the unknown token never comes (`generation`)."""
    never = {} if tokenizer.unknown_id is None else {"suppress_tokens": [tokenizer.unknown_id]}
    return _NO_SPECIAL_TOKENS | {"pad_token_id": padding.id, "max_length": context} | never


def _tokenizer(tokenizer: Tokenizer) -> str:
    """Return tokenizer.json; at char level it has a normalizer that does to a text what `prompts.known_text` does."""
    if tokenizer.level != "char":
        return tokenizer.content()
    by_form = defaultdict[str, str](str)
    for character in tokenizer.unknown_characters("".join(map(chr, REPLACED))):
        form = prompts.plain_form(tokenizer, character)
        if form is not None:
            by_form[form] += rf"\x{{{ord(character):x}}}"
    rules = [normalizers.Replace(Regex(f"[{codes}]"), form) for form, codes in by_form.items()]
    opening = prompts.plain_form(tokenizer, "“")
    if tokenizer.unknown_characters('"') and opening is not None:
        rules.insert(0, normalizers.Replace(Regex(prompts.OPENING_QUOTE), opening))  # before the others close
    inner = tokenizers.Tokenizer.from_str(tokenizer.content())
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), *rules])
    return str(inner.to_str(pretty=True)) + "\n"


def _tokenizer_config(padding: Padding, context: int) -> dict[str, Any]:
    """Return tokenizer_config.json: tokenizer.json as it is, and nothing else done to the text or the ids."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "pad_token": padding.token,
        "padding_side": "left",
        "truncation_side": "left",  # of a long prompt the end counts
        "split_special_tokens": True,  # else a text that spells the padding token has it
        "clean_up_tokenization_spaces": False,  # else decoding drops the space before ! and ?
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4: else token types too, which GPT-2 adds
    }
