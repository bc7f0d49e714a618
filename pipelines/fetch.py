"""Stage fetch: params.yaml and data/catalog.yaml -> data/raw (the files of the corpus as they are, corpus.json)."""

from gptmodel import layout
from gptmodel.errors import one_line_errors
from gptmodel.params import load
from gptmodel.text import catalog
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Fetch the corpus that params.yaml names."""
    arguments.none()
    book = load(layout.PARAMS).corpus
    corpus = catalog.fetch(catalog.resolve(book.path, catalog.load(layout.CATALOG)), layout.RAW, book)
    by = f" by {corpus.author}" if corpus.author else ""
    by += f" ({corpus.year})" if corpus.year else ""
    size = sum(file.bytes for file in corpus.files)
    print(f"{corpus.name}: {corpus.title}{by}; {len(corpus.files)} file(s), {size:,} bytes; {corpus.licence}")


if __name__ == "__main__":
    main()
