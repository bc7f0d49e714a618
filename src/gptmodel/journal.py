"""What one keeps of a training while it runs: the best weights, the history, and a sample at every evaluation.

Everything lands in the model's folder; the tracked run gets a copy as it happens, so that curves can be watched.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gptmodel import checkpoint, files, samples
from gptmodel.dataset import Dataset
from gptmodel.decoding import Sampling
from gptmodel.evaluation import unknown_nats
from gptmodel.mlflow_run import Run
from gptmodel.networks import LanguageModel
from gptmodel.params import Timeline
from gptmodel.torch_decoder import TorchDecoder
from gptmodel.training import Evaluation


@dataclass
class Journal:
    """Keeps what `record` is shown under `folder`: checkpoint/, history.csv and timeline.md."""

    folder: Path
    network: LanguageModel
    data: Dataset
    meta: checkpoint.Meta
    timeline: Timeline
    run: Run
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    def log_data(self) -> None:
        """Tell the tracked run which data this is, by hash."""
        hashes = self.data.hashes()
        for split in self.data.ids:
            name = f"{self.meta.corpus['name']}/{split}"
            self.run.log_dataset(name, hashes[f"{split}.npy"], split, str(self.data.folder))

    def record(self, evaluations: Iterable[Evaluation]) -> None:
        """Follow a training to its end."""
        for evaluation in evaluations:
            row = self._row(evaluation)
            self.rows.append(row)
            self.run.log_history([row])
            if evaluation.is_best:
                best = {"best_step": evaluation.step, "validation_loss_nats": row["validation_loss_nats"]}
                checkpoint.save(self.folder / "checkpoint", self.network, self.meta.model_copy(update=best))
            self._add_sample(evaluation.step, row["validation_bits_per_char"])
        files.write_text(self.folder / "history.csv", pd.DataFrame(self.rows).to_csv(index=False))
        files.write_text(self.folder / "timeline.md", "\n".join(self.written))
        self.run.log_file(self.folder / "history.csv")
        self.run.log_file(self.folder / "timeline.md")

    def _row(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return one line of history.csv; bits are per character of the text, all characters charged."""
        ids = self.data.ids["validation"]
        nats = evaluation.validation_nats + unknown_nats(ids, self.data.tokenizer.unknown_id)
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
            "tokens_per_second": evaluation.tokens_per_second,
        }

    def _add_sample(self, step: int, bits_per_char: float) -> None:
        """Let the network write, so that one can watch the language appear."""
        how, was_training = self.timeline, self.network.training
        decoder, sampling = TorchDecoder(self.network.eval()), Sampling(how.temperature)
        (sample,) = samples.write(
            decoder, self.data.tokenizer, [how.prompt], sampling, how.max_new_tokens, self.meta.seed
        )
        self.network.train(was_training)
        entry = f"## step {step}: {bits_per_char:.3f} bits per character\n\n{sample.markdown()}"
        self.written.append(entry)
        self.run.log_text(entry, f"timeline/step_{step:06d}.md")
