"""`gptmodel info`: what a bundle is."""

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from gptmodel.cli.arguments import BundleFolder
from gptmodel.errors import one_line_errors


@one_line_errors()
def info(bundle: BundleFolder) -> None:
    """Check a bundle and say what it is, what it was trained on and how good it is."""
    from gptmodel.runtime.bundle import check, find, read_info

    folder = find(bundle)
    description = read_info(folder)
    check(folder, description)
    lines = list(_lines(description.model_dump(exclude={"files"})))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested values to lines: names joined by dots, large numbers grouped, small ones shortened."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)
