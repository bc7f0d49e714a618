"""Stage baselines: data/tokens/char and data/clean/text -> data/baselines (baselines.json and .csv, surprisal)."""

from gptmodel import layout, params
from gptmodel.data.corpus import read_splits
from gptmodel.data.dataset import Dataset
from gptmodel.errors import one_line_errors
from gptmodel.evaluation import baselines
from gptmodel.files import whole_folder
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Count the characters of the training split and score validation and test, order by order."""
    arguments.none()
    order = params.load(layout.PARAMS).baselines.order
    data = Dataset.read(layout.TOKENS / "char")
    baselines.check_memory(len(data.ids["train"]), order)
    counted = baselines.count(data, read_splits(layout.TEXT), order)
    with whole_folder(layout.BASELINES) as folder:
        counted.write(folder)
    print(counted.table().round(3).to_string(index=False))
    print(f"best on validation: {counted.scores.best}")


if __name__ == "__main__":
    main()
