"""Stage encode@LEVEL: data/clean/text -> data/tokens/LEVEL (ids as .npy, tokenizer.json, text.json, stats.json)."""

from gptmodel import layout, params
from gptmodel.data.corpus import read_facts, read_splits
from gptmodel.data.encoding import encode_splits, table
from gptmodel.data.fitting import check_fit, fit
from gptmodel.errors import one_line_errors
from gptmodel.files import whole_folder
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Fit the tokenizer of the level named on the command line to the training split and encode every split."""
    level, tokenizers = arguments.level(), params.load(layout.PARAMS).tokenizers
    texts = read_splits(layout.TEXT)
    tokenizer = fit(level, texts["train"], tokenizers)
    with whole_folder(layout.TOKENS / level) as folder:
        statistics = encode_splits(tokenizer, texts, read_facts(layout.TEXT), folder)
        check_fit(folder / "tokenizer.json", texts["train"], tokenizers)
    print(table(statistics).to_string(index=False))


if __name__ == "__main__":
    main()
