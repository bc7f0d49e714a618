"""llama.cpp through llama-cpp-python's low-level interface, which decodes several rows at once (its `Llama` does not).

Variants: fp32, fp16 (both the matrices; the cache of fp32 is fp32 too), q8_0. The file is written here, as llama.cpp's
own converter would name things.
"""

import ctypes
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as llama
import numpy as np
import workload
from safetensors.numpy import load_file

TYPES = {kind: gguf.GGMLQuantizationType[name] for kind, name in (("fp32", "F32"), ("fp16", "F16"), ("q8_0", "Q8_0"))}
GPU_LAYERS = 999  # all
ERROR = 4  # level of llama.cpp's log


@llama.llama_log_callback
def log(level: int, text: bytes, _: object) -> None:
    """Pass on errors; at its lower levels llama.cpp tells every graph."""
    if level == ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def convert(folder: Path, target: Path, job: workload.Job) -> None:
    """Write the Hugging Face folder as GGUF; norms stay in fp32."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "qwen3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")  # the benchmark feeds ids
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        kind = TYPES[job.mode] if weight.ndim == 2 else TYPES["fp32"]
        theirs = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(theirs, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Rows:
    """A context of llama.cpp for some rows of at most `capacity` tokens each."""

    def __init__(self, model: Any, rows: int, capacity: int, job: workload.Job) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max = rows * capacity, rows
        params.n_batch = max(params.n_batch, rows * capacity)
        params.n_threads = params.n_threads_batch = job.threads
        if job.mode == "fp32":
            params.type_k = params.type_v = llama.GGML_TYPE_F32
        self._context = llama.llama_init_from_model(model, params)
        if not self._context:
            raise ValueError("llama.cpp made no context")
        self._size = rows * capacity
        self._batch = llama.llama_batch_init(self._size, 0, 1)
        self._vocab_size = job.vocab_size

    def clear(self) -> None:
        """Forget all tokens."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)

    def feed(self, ids_BT: np.ndarray, start: int) -> np.ndarray:
        """Return the likeliest token after each row, (B,); `start` is the place of the first column."""
        rows, length = ids_BT.shape
        batch, flat = self._batch, slice(ids_BT.size)
        batch.n_tokens = ids_BT.size
        np.ctypeslib.as_array(batch.token, (self._size,))[flat] = ids_BT.ravel()
        np.ctypeslib.as_array(batch.pos, (self._size,))[flat] = np.tile(np.arange(start, start + length), rows)
        np.ctypeslib.as_array(batch.n_seq_id, (self._size,))[flat] = 1
        np.ctypeslib.as_array(batch.logits, (self._size,))[flat] = np.tile(np.arange(length) == length - 1, rows)
        for place in range(ids_BT.size):
            batch.seq_id[place][0] = place // length
        if llama.llama_decode(self._context, batch):
            raise ValueError("llama_decode failed")
        logits = llama.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, (rows, self._vocab_size)).argmax(axis=1)


def load(path: Path, job: workload.Job) -> workload.Loaded:
    """Load the file."""
    llama.llama_log_set(log, ctypes.c_void_p(0))
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = GPU_LAYERS if job.device == "cuda" else 0
    model = llama.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise ValueError(f"llama.cpp cannot load {path.name}")
    ready: dict[tuple[int, int], Rows] = {}

    def steps(prompts: workload.Prompts, new_tokens: int) -> Iterator[np.ndarray]:
        ids_BT = np.array(prompts, dtype=np.int32)
        capacity = ids_BT.shape[1] + max(new_tokens, job.new_tokens)
        key = len(prompts), capacity
        if key not in ready:
            ready[key] = Rows(model, *key, job)
        rows, place = ready[key], 0
        rows.clear()
        for _ in range(new_tokens):
            ids_B = rows.feed(ids_BT, place)
            place += ids_BT.shape[1]
            ids_BT = ids_B[:, None]
            yield ids_B

    return workload.Loaded(workload.ticked(steps), path.stat().st_size, ("llama-cpp-python", "numpy"))


if __name__ == "__main__":
    workload.main(load, convert)
