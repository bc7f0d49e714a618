"""What a network does inside while it reads a text: attention, the residual stream, and what each layer would predict.

The network runs as it is; torch's forward hooks watch its own parts, so there is no second copy of it. Attention
weights, which a fast kernel never stores, are computed again from the keys that a layer returns and the queries that
its own projection gives. Attention shows where a head reads; how much each token matters for a prediction is another
question (Jain & Wallace 2019, arXiv:1902.10186).

Sources: Vaswani et al. 2017 (arXiv:1706.03762), equation 1 and figure 2, for attention; Elhage et al. 2021, "A
mathematical framework for transformer circuits", for the residual stream; nostalgebraist 2020, "interpreting GPT: the
logit lens".

Shape suffixes: B batch (here 1), T tokens, V vocabulary, C n_embd, L layers, H heads, D head size. `residual_LTC` and
`lens_LTV` have L + 1 entries on their first axis: the embedding, then each block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gptmodel.arrays import Ids
from gptmodel.data.tokenizer import Tokenizer, naming_nats
from gptmodel.errors import UserError
from gptmodel.model.gpt import GPT, Attention, AttentionOutput, Block, BlockOutput, attend, rotate
from gptmodel.model.networks import LanguageModel
from gptmodel.results.evaluation import Candidate


@dataclass(frozen=True)
class Internals:
    """What a network does with one text; tensors are fp32 on the CPU.

    A bigram looks at the last token only: it has no attention and no layers, and `attention_LHTT`, `residual_LTC` and
    `lens_LTV` are None.
    """

    tokenizer: Tokenizer
    ids_T: Tensor  # int64
    logits_TV: Tensor  # row t: what the network expects after token t
    attention_LHTT: Tensor | None  # [layer, head, t, s]: the share of token s in what token t reads; each row sums to 1
    residual_LTC: Tensor | None  # the residual stream after the embedding, then after each block
    lens_LTV: Tensor | None  # final norm and head applied to each of those; the last is `logits_TV`

    @property
    def tokens(self) -> list[str]:
        """The tokens as people read them (see `readable`)."""
        return [readable(self.tokenizer, token) for token in self.ids_T.tolist()]

    @property
    def expected_TV(self) -> Tensor:
        """The logits that each token was met with: those after the token before, and uniform ones for the first."""
        return F.pad(self.logits_TV[:-1], (0, 0, 1, 0))

    @property
    def nats_T(self) -> Tensor:
        """What each token costs, -ln p(token | the tokens before), in nats (see `costs`)."""
        return costs(self.tokenizer, self.expected_TV, self.ids_T)

    def top(self, k: int) -> list[list[Candidate]]:
        """Return, for each token, the `k` candidates that were likeliest in its place."""
        return likeliest(self.tokenizer, self.expected_TV, k)

    def following(self, k: int) -> list[Candidate]:
        """Return the `k` tokens that are likeliest after the text."""
        return likeliest(self.tokenizer, self.logits_TV[-1:], k)[0]


def read(network: LanguageModel, tokenizer: Tokenizer, text: str) -> Internals:
    """Return what `network` does with `text`; `UserError` if the text is empty or longer than the context.

    >>> from gptmodel import params
    >>> from gptmodel.data.fitting import fit_char
    >>> from gptmodel.model import networks
    >>> letters = fit_char("papa", min_count=1)  # <unk>, a, p
    >>> network = networks.build(params.BigramNetwork(network="bigram", context=8), letters.vocab_size)
    >>> internals = read(network, letters, "pa")  # before training, each of the three costs ln 3
    >>> internals.tokens, internals.nats_T
    (['p', 'a'], tensor([1.0986, 1.0986]))
    """
    if not text:
        raise UserError("the text to read is empty: give at least one character")
    return read_ids(network, tokenizer, tokenizer.encode(text))


@torch.no_grad()
def read_ids(network: LanguageModel, tokenizer: Tokenizer, ids: Ids) -> Internals:
    """Return what `network` does with tokens, shape (T,), T at least 1; `UserError` if they exceed its context."""
    if isinstance(network, GPT) and len(ids) > network.context:
        raise UserError(
            f"the text to read has {len(ids)} tokens, but this network looks back on {network.context} at most: "
            f"give a shorter text"
        )
    ids_T = torch.from_numpy(ids.astype(np.int64))
    ids_BT = ids_T.to(next(network.parameters()).device)[None]
    with evaluating(network):
        if not isinstance(network, GPT):
            return Internals(tokenizer, ids_T, _plain(network(ids_BT)[0])[0], None, None, None)
        with _watching(network) as (attention, residual):
            logits_BTV, _ = network(ids_BT)
        lens = [network.head(network.final_norm(x_BTC)) for x_BTC in residual]
    stacks = [_plain(torch.cat(parts)) for parts in (attention, residual, lens)]
    return Internals(tokenizer, ids_T, _plain(logits_BTV)[0], *stacks)


@contextmanager
def _watching(network: GPT) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yield two lists that a forward pass inside the block fills: attention (B, H, T, T) and residual (B, T, C)."""
    attention: list[Tensor] = []
    residual: list[Tensor] = []

    def before_blocks(_: Any, inputs: tuple[Any, ...]) -> None:
        residual.append(inputs[0])

    def after_block(_: Any, __: Any, output: BlockOutput) -> None:
        residual.append(output.x_BTC)

    def after_attention(layer: Any, inputs: tuple[Any, ...], output: AttentionOutput) -> None:
        x_BTC, rotary, *_ = inputs
        attention.append(attention_weights(layer, x_BTC, rotary, output.k_BHSD))

    hooks = [network.blocks[0].register_forward_pre_hook(before_blocks)]
    for part in network.modules():
        if isinstance(part, Attention):
            hooks.append(part.register_forward_hook(after_attention))
        elif isinstance(part, Block):
            hooks.append(part.register_forward_hook(after_block))
    try:
        yield attention, residual
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def attention_weights(layer: Attention, x_BTC: Tensor, rotary: tuple[Tensor, Tensor] | None, k_BHTD: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(D)), causal, (B, H, T, T): Vaswani et al. 2017, equation 1, less its product with v.

    `x_BTC` is what the layer reads, `k_BHTD` are the keys that it returned. With the identity in the place of v,
    equation 1 gives the weights themselves. Each head is one "scaled dot-product attention" of the paper's figure 2.

    A query of zeros prefers nothing: each token reads itself and all before it in equal shares.

    >>> from gptmodel.params import GPTNetwork
    >>> layer = Attention(GPTNetwork(
    ...     network="gpt", context=3, n_layer=1, n_head=1, n_embd=16, n_hidden=16, norm="layernorm", init="gpt2",
    ...     positions="learned", mlp="gelu", qk_norm=False, bias=False, tie_embeddings=True, dropout=0.0))
    >>> attention_weights(layer, torch.zeros(1, 3, 16), None, torch.randn(1, 1, 3, 16))[0, 0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """
    q_BTHD = layer.qkv(x_BTC).unflatten(-1, (3, layer.n_head, layer.head_size)).select(-3, 0)
    if layer.q_norm is not None:
        q_BTHD = layer.q_norm(q_BTHD)
    q_BHTD = q_BTHD.transpose(1, 2)
    if rotary is not None:
        q_BHTD = rotate(q_BHTD, *rotary)
    return attend(q_BHTD, k_BHTD, torch.eye(x_BTC.shape[1], device=x_BTC.device, dtype=x_BTC.dtype))


def readable(tokenizer: Tokenizer, token: int) -> str:
    r"""Return the text of one token, white space as it is; bytes that are no whole character as \x and two digits.

    The unknown token of the char level is U+FFFD.

    >>> from gptmodel.data.fitting import fit_bpe
    >>> single_bytes = fit_bpe("té", vocab_size=256)
    >>> [readable(single_bytes, token) for token in single_bytes.encode("té")]
    ['t', '\\xc3', '\\xa9']
    """
    return tokenizer.token_bytes[token].decode("utf-8", errors="backslashreplace")


def likeliest(tokenizer: Tokenizer, logits_TV: Tensor, k: int) -> list[list[Candidate]]:
    """Return the `k` tokens of highest probability for each row of logits, likeliest first, equals in order of ids."""
    shares_TV, ids_TV = logits_TV.softmax(-1).sort(descending=True, stable=True)
    return [
        [(readable(tokenizer, token), share) for token, share in zip(tokens, shares, strict=True)]
        for tokens, shares in zip(ids_TV[:, :k].tolist(), shares_TV[:, :k].tolist(), strict=True)
    ]


def costs(tokenizer: Tokenizer, expected_TV: Tensor, ids_T: Tensor) -> Tensor:
    """Return what each of `ids_T` costs under the logits it was met with, in nats (T,).

    As in `model.loss`: a character that the tokenizer does not know also costs its name.
    """
    naming_T = torch.from_numpy(naming_nats(ids_T.numpy(), tokenizer.unknown_id)).float()
    return F.cross_entropy(expected_TV, ids_T, reduction="none") + naming_T


@contextmanager
def evaluating(network: LanguageModel) -> Iterator[None]:
    """No dropout inside the block; the network's mode is restored."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _plain(x: Tensor) -> Tensor:
    return x.float().cpu()
