"""What one keeps of a training while it runs: the best weights, the history, and a sample at every evaluation.

The tracked run gets a copy as it happens, so that curves can be watched. At the end all of it lands in the model's
folder. Everything here but speeds is the same bytes for the same training, stopped and resumed or not.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from gptmodel import checkpoint, files, mirror, networks, samples
from gptmodel.dataset import Dataset
from gptmodel.decoding import Sampling
from gptmodel.experiment import Experiment
from gptmodel.mlflow_run import Run
from gptmodel.networks import LanguageModel
from gptmodel.params import Timeline
from gptmodel.surprisal import naming_nats
from gptmodel.torch_decoder import TorchDecoder
from gptmodel.training import Evaluation


@dataclass
class Journal:
    """Keeps what `record` is shown, and writes it under `folder` at the end."""

    folder: Path
    network: LanguageModel
    experiment: Experiment
    timeline: Timeline
    run: Run
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)  # tokens per second between evaluations
    best: dict[str, Tensor] = field(default_factory=dict)  # weights, on the CPU
    best_facts: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Dataset:
        """The text and its tokenizer."""
        return self.experiment.data

    def record(self, evaluation: Evaluation) -> None:
        """Keep what an evaluation found, the weights if they are the best so far, and a sample."""
        row = self._row(evaluation)
        self.rows.append(row)
        if evaluation.tokens_per_second == evaluation.tokens_per_second:  # NaN before the first step
            self.speeds.append(evaluation.tokens_per_second)
        self.run.log_history([row | {"tokens_per_second": evaluation.tokens_per_second}])
        if evaluation.is_best:
            weights = networks.weights(self.network)
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
            self.best_facts = {"best_step": evaluation.step, "validation_loss_nats": row["validation_loss_nats"]}
        self._add_sample(evaluation.step, row["validation_bits_per_char"])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a resumed training needs to write the same files."""
        facts = {"rows": self.rows, "written": self.written, "speeds": self.speeds, "best": self.best_facts}
        return {f"best/{name}": tensor for name, tensor in self.best.items()}, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.rows, self.written, self.speeds = facts["rows"], facts["written"], facts["speeds"]
        self.best_facts = facts["best"]
        self.best = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}

    def write(self, speed: Mapping[str, Any]) -> None:
        """Write checkpoint/, history.csv, timeline.md and training.json (how fast it went: `speed` and the rate)."""
        meta = self.experiment.meta.model_copy(update=self.best_facts)
        checkpoint.save(self.folder / "checkpoint", self.best, meta)
        files.write_text(self.folder / "history.csv", pd.DataFrame(self.rows).to_csv(index=False))
        files.write_text(self.folder / "timeline.md", "\n".join(self.written))
        files.write_json(self.folder / "training.json", speed)
        mirror.trained(self.run, self.folder)

    def tokens_per_second(self) -> float:
        """Return the median speed between evaluations."""
        return statistics.median(self.speeds)

    def _row(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return one line of history.csv; bits are per character of the text, all characters charged."""
        ids = self.data.ids["validation"]
        nats = evaluation.validation_nats + float(naming_nats(ids, self.data.tokenizer.unknown_id).sum())
        train_nats_per_char = evaluation.train_loss_nats / self.data.characters_per_token("train")
        return {
            "step": evaluation.step,
            "tokens": evaluation.tokens,
            "characters": round(evaluation.tokens * self.data.characters_per_token("train")),
            "train_loss_nats": evaluation.train_loss_nats,
            "validation_loss_nats": nats / len(ids),
            "train_bits_per_char": train_nats_per_char / math.log(2),
            "validation_bits_per_char": nats / math.log(2) / self.data.characters["validation"],
            "learning_rate": evaluation.learning_rate,
        }

    def _add_sample(self, step: int, bits_per_char: float) -> None:
        """Let the network write, so that one can watch the language appear."""
        how, was_training = self.timeline, self.network.training
        decoder, sampling = TorchDecoder(self.network.eval()), Sampling(how.temperature)
        (sample,) = samples.write(
            decoder, self.data.tokenizer, [how.prompt], sampling, how.max_new_tokens, self.experiment.meta.seed
        )
        self.network.train(was_training)
        entry = f"## step {step}: {bits_per_char:.3f} bits per character\n\n{sample.markdown()}"
        self.written.append(entry)
        self.run.log_text(entry, f"timeline/step_{step:06d}.md")
