"""The GPT: token ids -> logits, nothing else. One file serves the 2017-style and the modern decoder.

Read it top-down in the order of the data: norm -> attention -> MLP -> block -> GPT.

Sources: "Attention is all you need" (Vaswani et al. 2017, arXiv:1706.03762) for attention and the block;
GPT-2 (Radford et al. 2019) for pre-normalisation, the scaled initialisation and tied embeddings; RMSNorm
(arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), QK-norm (arXiv:2010.04245).
The parts are named and ordered so that the classic network is GPT-2 and the modern one Qwen3 (with QK-norm)
or Llama (without).

Shape suffixes: B batch, T new tokens, S tokens seen so far (cache and new), V vocabulary, C n_embd, F n_hidden,
H heads, D head size, R = D / 2.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptmodel.params import GPTNetwork

LAYER_NORM_EPS = 1e-5  # as GPT-2
RMS_NORM_EPS = 1e-6  # as Qwen3
ROPE_BASE = 10_000.0  # RoPE paper, section 3.3
INIT_STD = 0.02  # GPT-2

Pair = tuple[Tensor, Tensor]  # cos and sin of the positions, or the keys and values before


def head_size(config: GPTNetwork) -> int:
    """Return the width D of one attention head."""
    return config.n_embd // config.n_head


class Cache(NamedTuple):
    """What a GPT remembers of the tokens before: keys and values per layer, and each row's left padding.

    Padding aligns prompts of different lengths on the right; padding is never attended to.
    """

    pad_B: Tensor
    keys_BHSD: tuple[Tensor, ...]
    values_BHSD: tuple[Tensor, ...]


class AttentionOutput(NamedTuple):
    """The mixed values, and all keys and values so far."""

    y_BTC: Tensor
    k_BHSD: Tensor
    v_BHSD: Tensor


class BlockOutput(NamedTuple):
    """The residual stream, and this layer's keys and values so far."""

    x_BTC: Tensor
    k_BHSD: Tensor
    v_BHSD: Tensor


def rotary_table(head_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Return cos and sin of position x frequency, each of shape (length, head_size / 2), in fp32."""
    frequency_R = ROPE_BASE ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle_SR = torch.outer(torch.arange(length, dtype=torch.float64), frequency_R)
    return angle_SR.cos().float(), angle_SR.sin().float()


def rotate(x_BHTD: Tensor, cos_BTR: Tensor, sin_BTR: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its position's angle (the "rotate half" layout of Llama and Qwen3)."""
    first_BHTR, second_BHTR = x_BHTD.chunk(2, dim=-1)
    cos_B1TR, sin_B1TR = cos_BTR.unsqueeze(-3), sin_BTR.unsqueeze(-3)
    turned = (first_BHTR * cos_B1TR - second_BHTR * sin_B1TR, second_BHTR * cos_B1TR + first_BHTR * sin_B1TR)
    return torch.cat(turned, dim=-1)


def attend(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v, causal: Vaswani et al. 2017, equation 1, written out."""
    length, size = q_BHTD.shape[-2:]
    causal_TT = q_BHTD.new_full((length, length), -math.inf).triu(1)
    scores_BHTT = (q_BHTD * size**-0.5) @ k_BHTD.mT + causal_TT
    y_BHTD: Tensor = scores_BHTT.softmax(dim=-1) @ v_BHTD
    return y_BHTD


def build_norm(config: GPTNetwork) -> nn.Module:
    """Return the normalisation that the configuration asks for, over C."""
    if config.norm == "layernorm":
        return nn.LayerNorm(config.n_embd, eps=LAYER_NORM_EPS, bias=config.bias)
    return nn.RMSNorm(config.n_embd, eps=RMS_NORM_EPS)


class Attention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017, section 3.2 and figure 2)."""

    def __init__(self, config: GPTNetwork) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.head_size = head_size(config)
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.q_norm = nn.RMSNorm(self.head_size, eps=RMS_NORM_EPS) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_size, eps=RMS_NORM_EPS) if config.qk_norm else None

    def forward(
        self, x_BTC: Tensor, rotary: Pair | None, past: Pair | None, mask_B1TS: Tensor | None
    ) -> AttentionOutput:
        """Return (B, T, C), and all keys and values so far; no mask means causal without a past.

        Training on a CPU takes `attend`, whose backward pass is faster there than that of torch's kernel; everything
        else takes torch's kernel. Both are the same equation, but their last digits differ.
        """
        q_BTHD, k_BTHD, v_BTHD = self.qkv(x_BTC).unflatten(-1, (3, self.n_head, self.head_size)).unbind(-3)
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHD = self.q_norm(q_BTHD.to(self.q_norm.weight.dtype))
            k_BTHD = self.k_norm(k_BTHD.to(self.k_norm.weight.dtype))
        q_BHTD, k_BHTD, v_BHTD = (part.transpose(1, 2) for part in (q_BTHD, k_BTHD, v_BTHD))
        if rotary is not None:
            q_BHTD = rotate(q_BHTD, *rotary)
            k_BHTD = rotate(k_BHTD, *rotary)
        k_BHSD = k_BHTD if past is None else torch.cat((past[0], k_BHTD), dim=2)
        v_BHSD = v_BHTD if past is None else torch.cat((past[1], v_BHTD), dim=2)
        if mask_B1TS is None and torch.is_grad_enabled() and x_BTC.device.type == "cpu":
            y_BHTD = attend(q_BHTD, k_BHTD, v_BHTD)
        else:
            is_causal = mask_B1TS is None
            y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask_B1TS, is_causal=is_causal)
        return AttentionOutput(self.out(y_BHTD.transpose(1, 2).flatten(-2)), k_BHSD, v_BHSD)


class MLP(nn.Module):
    """The position-wise feed-forward network (Vaswani et al. 2017, section 3.3), plain or gated (SwiGLU)."""

    def __init__(self, config: GPTNetwork) -> None:
        super().__init__()
        self.kind = config.mlp
        self.up = nn.Linear(config.n_embd, config.n_hidden, bias=config.bias)
        self.gate = nn.Linear(config.n_embd, config.n_hidden, bias=config.bias) if self.kind == "swiglu" else None
        self.down = nn.Linear(config.n_hidden, config.n_embd, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return (B, T, C)."""
        h_BTF = self.up(x_BTC)
        if self.gate is not None:
            h_BTF = F.silu(self.gate(x_BTC)) * h_BTF
        else:
            h_BTF = F.gelu(h_BTF, approximate="tanh") if self.kind == "gelu" else F.relu(h_BTF)
        y_BTC: Tensor = self.down(h_BTF)
        return y_BTC


class Block(nn.Module):
    """Attention, then MLP, each normalised before and added to the residual stream after."""

    def __init__(self, config: GPTNetwork) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor, rotary: Pair | None, past: Pair | None, mask_B1TS: Tensor | None) -> BlockOutput:
        """Return the residual stream and this layer's keys and values."""
        y_BTC, k_BHSD, v_BHSD = self.attention(self.attention_norm(x_BTC), rotary, past, mask_B1TS)
        x_BTC = x_BTC + self.dropout(y_BTC)
        x_BTC = x_BTC + self.dropout(self.mlp(self.mlp_norm(x_BTC)))
        return BlockOutput(x_BTC, k_BHSD, v_BHSD)


def _draw(module: nn.Embedding | nn.Linear | None, std: float) -> None:
    """Draw a module's weights from normal(0, std), and set its bias to 0; nothing is drawn for a `std` of 0."""
    if module is None:
        return
    nn.init.zeros_(module.weight)
    if std:
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class GPT(nn.Module):
    """A decoder-only transformer (the right half of figure 1 in Vaswani et al. 2017, without cross-attention)."""

    cos_SR: Tensor
    sin_SR: Tensor

    def __init__(self, config: GPTNetwork, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.context = config.context
        self.vocab_size = vocab_size
        self.head_size = head_size(config)
        self.token_embedding = nn.Embedding(vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.context, config.n_embd) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.final_norm = build_norm(config)
        self.head = nn.Linear(config.n_embd, vocab_size, bias=False)
        cos_SR, sin_SR = rotary_table(self.head_size, config.context)
        self.register_buffer("cos_SR", cos_SR, persistent=False)
        self.register_buffer("sin_SR", sin_SR, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the first weights, in the order of the data, from normal distributions of mean 0.

        tensor                    init: gpt2                zero
        token_embedding           0.02                      1 (tied: 0.02)
        position_embedding        0.02                      0.02
        qkv, up, gate             0.02                      1 / sqrt(fan-in), which keeps the size of activations
        attention.out, mlp.down   0.02 / sqrt(2 n_layer)    0: every block begins as the identity
        head                      0.02                      0 (tied: it is the token embedding)

        `gpt2` as GPT-2 (section 2.3), `zero` as nanochat `gpt.py`. Biases are 0, gains of norms 1.
        """
        config = self.config
        zero = config.init == "zero"
        untied_zero = zero and not config.tie_embeddings
        stream_std = 0.0 if zero else INIT_STD / math.sqrt(2 * config.n_layer)
        inside_std = config.n_embd**-0.5 if zero else INIT_STD
        _draw(self.token_embedding, 1.0 if untied_zero else INIT_STD)
        _draw(self.position_embedding, INIT_STD)
        for block in self.layers:
            _draw(block.attention.qkv, inside_std)
            _draw(block.attention.out, stream_std)
            _draw(block.mlp.up, inside_std)
            _draw(block.mlp.gate, inside_std)
            _draw(block.mlp.down, stream_std)
        _draw(self.head, 0.0 if untied_zero else INIT_STD)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight

    @property
    def layers(self) -> list[Block]:
        """The blocks in the order of the data."""
        return cast(list[Block], list(self.blocks))

    def empty_cache(self, pad_B: Tensor) -> Cache:
        """Return the cache before the first token; `pad_B` (int64) is the left padding of each row."""
        none_BH0D = self.token_embedding.weight.new_empty((len(pad_B), self.config.n_head, 0, self.head_size))
        nothing = (none_BH0D,) * self.config.n_layer
        return Cache(pad_B, nothing, nothing)

    def forward(self, ids_BT: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache | None]:
        """Return logits of shape (B, T, V) and the cache that includes these tokens.

        Without a cache (training), rows have no padding and no cache is returned. With one, the tokens of cache
        and `ids_BT` together are at most `context`.
        """
        if cache is None:
            position_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).unsqueeze(0)
            mask_B1TS = None
        else:
            past_length = cache.keys_BHSD[0].shape[2]
            length = past_length + ids_BT.shape[1]
            index_T = torch.arange(past_length, length, device=ids_BT.device)
            index_S = torch.arange(length, device=ids_BT.device)
            position_BT = (index_T - cache.pad_B[:, None]).clamp(min=0)
            causal_TS = index_S <= index_T[:, None]
            itself_TS = index_S == index_T[:, None]  # padding sees itself, so that no row of the mask is empty
            real_B1S = index_S >= cache.pad_B[:, None, None]
            mask_B1TS = ((causal_TS & real_B1S) | itself_TS).unsqueeze(1)

        x_BTC = self.token_embedding(ids_BT)
        rotary = None
        if self.position_embedding is not None:
            x_BTC = x_BTC + self.position_embedding(position_BT)
        else:
            rotary = (self.cos_SR[position_BT], self.sin_SR[position_BT])
        x_BTC = self.dropout(x_BTC)

        keys = []
        values = []
        for layer, block in enumerate(self.blocks):
            past = None if cache is None else (cache.keys_BHSD[layer], cache.values_BHSD[layer])
            x_BTC, k_BHSD, v_BHSD = block(x_BTC, rotary, past, mask_B1TS)
            keys.append(k_BHSD)
            values.append(v_BHSD)
        logits_BTV = self.head(self.final_norm(x_BTC))
        return logits_BTV, None if cache is None else Cache(cache.pad_B, tuple(keys), tuple(values))
