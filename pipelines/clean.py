"""Stage clean: data/raw -> data/clean (text/: the splits; corpus.json: the title page; cleaning.json and samples)."""

from gptmodel import files, layout
from gptmodel.data.corpus import read_fetched, write_clean
from gptmodel.errors import one_line_errors
from gptmodel.params import load
from gptmodel.text import cleaning_report
from gptmodel.text.cleaning import clean_corpus
from gptmodel.text.openings import openings
from gptmodel.text.splits import split
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Clean the corpus, report what changed, and cut it into splits."""
    arguments.none()
    settings = load(layout.PARAMS)
    corpus = read_fetched(layout.RAW)
    cleaned = clean_corpus(corpus, layout.RAW, settings.clean)
    texts = split(cleaned.text, settings.split).named()
    with files.whole_folder(layout.CLEAN) as folder:
        found = corpus.model_copy(update={"language": cleaned.language})
        write_clean(folder, found, cleaned.typography, texts, openings(texts["train"]))
        cleaning_report.figures(cleaned).write(folder / "cleaning.json")
        files.write_text(folder / "cleaning_samples.md", cleaning_report.samples(cleaned))
    print(cleaning_report.summary(cleaned))
    print(", ".join(f"{name} {len(text):,}" for name, text in texts.items()), "characters")


if __name__ == "__main__":
    main()
