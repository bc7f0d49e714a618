"""onnxruntime-genai: its own model builder and generation loop. Variants: precisions of the builder."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
import workload

NEVER = 0  # the token that ends a text, which the builder insists on


MOST_ROWS = 32  # "batch_size must be in [1, 32]"


def convert(folder: Path, target: Path, job: workload.Job) -> None:
    """Build the model from a copy of the Hugging Face folder that names an end of text."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    with tempfile.TemporaryDirectory() as scratch:
        for file in (*folder.glob("*.json"), folder / "model.safetensors"):
            shutil.copy(file, scratch)
        config = Path(scratch) / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": NEVER}))
        asked = ("", scratch, str(target), job.mode, job.device, scratch)
        create_model(*asked, **parse_extra_options(*asked, []))


def load(folder: Path, job: workload.Job) -> workload.Loaded:
    """Open the model; greedy search is the default."""
    config = og.Config(str(folder))
    decoder = {"session_options": {"intra_op_num_threads": job.threads}}
    config.overlay(json.dumps({"model": {"decoder": decoder}}))
    if job.device == "cuda":
        config.clear_providers()
        config.append_provider("cuda")
    model = og.Model(config)

    def steps(prompts: workload.Prompts, new_tokens: int) -> Iterator[list[int]]:
        params = og.GeneratorParams(model)
        length = len(prompts[0]) + new_tokens
        params.set_search_options(batch_size=len(prompts), max_length=length, do_sample=False)
        generator = og.Generator(model, params)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        for _ in range(new_tokens):
            generator.generate_next_token()
            yield generator.get_next_tokens().tolist()

    size = workload.folder_bytes(folder, "model.onnx*")
    return workload.Loaded(workload.ticked(steps), size, ("onnxruntime-genai", "onnxruntime", "numpy"), MOST_ROWS)


if __name__ == "__main__":
    workload.main(load, convert)
