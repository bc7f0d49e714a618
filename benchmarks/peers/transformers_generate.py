"""Hugging Face transformers: `generate` with its default cache and attention. Variants: fp32, bf16, fp16."""

from collections.abc import Callable
from pathlib import Path

import torch
import workload
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria, StoppingCriteriaList

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Ticking(StoppingCriteria):
    """Stops nothing; `generate` calls it once per token."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """Tick, and say of every row that it goes on."""
        self._tick()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def load(folder: Path, job: workload.Job) -> workload.Loaded:
    """Load the model by name, as a user does."""
    torch.set_num_threads(job.threads)
    dtype = DTYPES[job.mode]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(job.device).eval()
    model.generation_config = GenerationConfig(do_sample=False)  # the folder's suppresses the unknown token

    @torch.inference_mode()
    def decode(prompts: workload.Prompts, new_tokens: int, tick: Callable[[], None]) -> list[list[int]]:
        ids = torch.tensor(prompts, device=job.device)
        stopping = StoppingCriteriaList([Ticking(tick)])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            stopping_criteria=stopping,
            pad_token_id=0,
        )
        return whole[:, ids.shape[1] :].tolist()

    return workload.Loaded(decode, dtype.itemsize * model.num_parameters(), ("transformers", "torch", "numpy"))


if __name__ == "__main__":
    workload.main(load)
