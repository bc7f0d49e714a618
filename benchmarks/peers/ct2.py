"""CTranslate2: its converter from transformers and its generator. Variants: fp32, int8, fp16, bf16."""

import json
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import workload

TYPES = {"fp32": "float32", "int8": "int8", "fp16": "float16", "bf16": "bfloat16"}
NEVER = 0  # the token that begins and ends a text, which it insists on


def convert(folder: Path, target: Path, job: workload.Job) -> None:
    """Convert the Hugging Face folder."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(target), quantization=TYPES[job.mode])
    config, token = json.loads((target / "config.json").read_text()), vocabulary(target)[NEVER]
    (target / "config.json").write_text(json.dumps(config | {"bos_token": token, "eos_token": token}))


def vocabulary(folder: Path) -> list[str]:
    """Return the tokens by id."""
    return json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))


def load(folder: Path, job: workload.Job) -> workload.Loaded:
    """Open the model."""
    kind = TYPES[job.mode]
    generator = ctranslate2.Generator(str(folder), device=job.device, compute_type=kind, intra_threads=job.threads)
    tokens = vocabulary(folder)

    def decode(prompts: workload.Prompts, new_tokens: int, tick: Callable[[], None]) -> list[list[int]]:
        def callback(step: ctranslate2.GenerationStepResult) -> bool:
            if step.batch_id == 0:
                tick()
            return False

        results = generator.generate_batch(
            [[tokens[token] for token in prompt] for prompt in prompts],
            max_length=new_tokens,
            include_prompt_in_result=False,
            callback=callback,
        )
        return [result.sequences_ids[0] for result in results]

    return workload.Loaded(decode, (folder / "model.bin").stat().st_size, ("ctranslate2", "numpy"))


if __name__ == "__main__":
    workload.main(load, convert)
