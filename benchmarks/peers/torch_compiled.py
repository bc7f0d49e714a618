"""Our network under torch.compile with a cache of fixed size, as gpt-fast does it: on CUDA each step is one CUDA graph.

The prompt is read eagerly; the step of one token per row is compiled for each batch size, before the clock runs.
Variants: fp32; fp16 and bf16 convert weights and cache.
Source: https://github.com/pytorch-labs/gpt-fast.

Shape suffixes as in gptmodel.model.gpt; M is the length of the cache's buffers.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
import weights
import workload
from torch import Tensor, nn

from gptmodel.model import networks
from gptmodel.model.gpt import GPT, rotate

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class LayerCache(nn.Module):
    """Keys and values of a layer; as buffers of a module they have fixed addresses, which CUDA graphs need."""

    keys_BHMD: Tensor
    values_BHMD: Tensor

    def __init__(self, like_BHMD: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys_BHMD", torch.zeros_like(like_BHMD))
        self.register_buffer("values_BHMD", torch.zeros_like(like_BHMD))


class Stepper(nn.Module):
    """Maps new tokens at given places to the likeliest next ones; keys and values are written in place."""

    place_M: Tensor

    def __init__(self, network: GPT, batch: int, capacity: int) -> None:
        super().__init__()
        config, weight = network.config, network.head.weight
        like_BHMD = weight.new_empty((batch, config.n_head, capacity, network.head_size))
        self.network = network
        self.caches = nn.ModuleList(LayerCache(like_BHMD) for _ in range(config.n_layer))
        self.register_buffer("place_M", torch.arange(capacity, device=weight.device))

    def forward(self, ids_BT: Tensor, place_T: Tensor) -> Tensor:
        """Return the likeliest token after the last of `ids_BT`, (B, 1)."""
        network = self.network
        x_BTC = network.token_embedding(ids_BT)
        rotary = (network.cos_SR[place_T][None].to(x_BTC.dtype), network.sin_SR[place_T][None].to(x_BTC.dtype))
        mask_TM = self.place_M <= place_T[:, None]
        for block, cache in zip(network.blocks, self.caches, strict=True):
            attention = block.attention
            qkv_BTC = attention.qkv(block.attention_norm(x_BTC))
            q, k, v = qkv_BTC.unflatten(-1, (3, attention.n_head, attention.head_size)).unbind(-3)
            q, k, v = attention.q_norm(q).transpose(1, 2), attention.k_norm(k).transpose(1, 2), v.transpose(1, 2)
            keys_BHMD = cache.keys_BHMD.index_copy_(2, place_T, rotate(k, *rotary))
            values_BHMD = cache.values_BHMD.index_copy_(2, place_T, v)
            y_BHTD = F.scaled_dot_product_attention(rotate(q, *rotary), keys_BHMD, values_BHMD, attn_mask=mask_TM)
            x_BTC = x_BTC + attention.out(y_BHTD.transpose(1, 2).flatten(-2))
            x_BTC = x_BTC + block.mlp(block.mlp_norm(x_BTC))
        logits_BV: Tensor = network.head(network.final_norm(x_BTC[:, -1]))
        return logits_BV.argmax(dim=-1, keepdim=True)


def load(folder: Path, job: workload.Job) -> workload.Loaded:
    """Load the weights; `mode="reduce-overhead"` is CUDA graphs on CUDA and the default mode on a CPU."""
    torch.set_num_threads(job.threads)
    dtype = DTYPES[job.mode]
    network = weights.load(folder, job.device).to(dtype)
    ready: dict[tuple[int, int], tuple[Stepper, Stepper]] = {}

    def steppers(batch: int, capacity: int) -> tuple[Stepper, Stepper]:
        if (batch, capacity) not in ready:
            stepper = Stepper(network, batch, capacity)
            compiled = torch.compile(stepper, mode="reduce-overhead", dynamic=False, fullgraph=True)
            ready[batch, capacity] = stepper, compiled
        return ready[batch, capacity]

    @torch.inference_mode()
    def steps(prompts: workload.Prompts, new_tokens: int) -> Iterator[list[int]]:
        ids_BT = torch.tensor(prompts, device=job.device)
        length = ids_BT.shape[1]
        eager, compiled = steppers(len(prompts), length + max(new_tokens, job.new_tokens))
        ids_B1 = eager(ids_BT, torch.arange(length, device=job.device))
        place_1 = torch.full((1,), length, device=job.device)
        yield ids_B1[:, 0].tolist()
        for _ in range(new_tokens - 1):
            ids_B1 = compiled(ids_B1, place_1).clone()  # the next replay writes where this result lies
            place_1 += 1
            yield ids_B1[:, 0].tolist()

    size = dtype.itemsize * networks.count_parameters(network)
    return workload.Loaded(workload.ticked(steps), size, ("torch", "numpy"))


if __name__ == "__main__":
    workload.main(load)
