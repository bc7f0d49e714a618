"""Stage clean: data/raw -> data/clean (train.txt, validation.txt, test.txt, corpus.json, cleaning.json and samples)."""

from gptmodel import cleaning_report, files
from gptmodel.cleaning import clean_corpus
from gptmodel.corpus import read_fetched, write_clean
from gptmodel.errors import one_line_errors
from gptmodel.params import load
from gptmodel.splits import split
from pipelines import layout


def main() -> None:
    """Clean the corpus, report what changed, and cut it into splits."""
    with one_line_errors():
        params = load(layout.PARAMS)
        corpus = read_fetched(layout.RAW)
        cleaned = clean_corpus(corpus, layout.RAW, params.clean)
        texts = split(cleaned.text, params.split).named()
        with files.whole_folder(layout.CLEAN) as folder:
            write_clean(folder, corpus, cleaned.language, texts)
            files.write_json(folder / "cleaning.json", cleaning_report.as_dict(cleaned))
            files.write_text(folder / "cleaning_samples.md", cleaning_report.samples(cleaned))
        print(cleaning_report.summary(cleaned))
        print(", ".join(f"{name} {len(text):,}" for name, text in texts.items()), "characters")


if __name__ == "__main__":
    main()
