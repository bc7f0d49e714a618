"""Where the stages read and write, from the repository's root; a test compares these paths with dvc.yaml's."""

from pathlib import Path

PARAMS = Path("params.yaml")
CATALOG = Path("data/catalog.yaml")
RAW = Path("data/raw")
CLEAN = Path("data/clean")  # the title page (corpus.json) and the report of the cleaning
TEXT = CLEAN / "text"  # the splits, and what of the corpus reaches the models
TOKENS = Path("data/tokens")  # a folder for each level
BASELINES = Path("data/baselines")
MODELS = Path("models")
REPORTS = Path("reports")
SUMMARY = Path("metrics.json")  # of all models; small, and tracked by Git


class ModelFolder:
    """models/NAME: a folder for each stage that works on the model."""

    def __init__(self, name: str, models: Path = MODELS) -> None:
        self.path = models / name
        self.training = self.path / "training"  # checkpoint/, history.csv, timeline.json, speed.json
        self.checkpoint = self.training / "checkpoint"
        self.evaluation = self.path / "evaluation"  # metrics, surprisal, breakdown, novelty, samples
        self.inspection = self.path / "inspection"
        self.bundle = self.path / "bundle"
        self.hf = self.path / "hf"
        self.benchmark = self.path / "benchmark"
