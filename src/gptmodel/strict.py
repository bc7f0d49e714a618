"""YAML and JSON files as strictly typed values; the first mistake in one is a sentence with the key and the remedy."""

import difflib
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gptmodel.errors import UserError

Section = TypeVar("Section", bound=BaseModel)
NETWORKS = ("bigram", "gpt")  # pydantic puts the kind of a model into the path of a mistake; no such key is in the file
LARGEST_BYTES = 1 << 18  # of a file that a person writes; params.yaml has 8 KB
LONGEST_PLAIN = 100  # characters
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80


class Strict(BaseModel):
    """Base of every section: unknown keys and wrong types are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; `UserError` names the file and the line of a mistake."""
    import yaml  # what runs a bundle reads no YAML, and the base install has none

    from gptmodel.yaml_loader import Loader

    text = _read_text(path)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise UserError(f"{path}, line {number}: {chr(error.character)!r} is no character of YAML: remove it") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {_plain(error.problem or '')}") from None
    except UserError as error:
        raise UserError(f"{path}, {error}") from None


def _read_text(path: Path) -> str:
    """Return the text of a file that a person writes; `UserError` if it cannot be read or is something else."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise UserError(f"{path} is larger than {LARGEST_BYTES:,} bytes: name the file that is meant")
        return data.decode()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run from the repository's root") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): put a readable file there") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def parse(section: type[Section], values: Any, path: Path) -> Section:
    """Check `values`, read from `path`, against a section's types; the first mistake becomes a `UserError`."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_mistake(error)}") from None


def parse_json(section: type[Section], path: Path, remedy: str) -> Section:
    """Read a JSON file of a section's types; `UserError` with the `remedy` if it is missing, damaged or different."""
    try:
        return section.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            reason = error.errors()[0]["msg"].removeprefix("Invalid JSON: ")
            raise UserError(f"{path} is damaged ({reason}): {remedy}") from None
        raise UserError(f"{path}: {_first_mistake(error)} ({remedy})") from None


def _first_mistake(error: ValidationError) -> str:
    """Return the key of the first mistake, what is wrong with it and what to do.

    An unknown key comes first: it is usually the misspelling of the one that is missing.
    """
    first = min(error.errors(include_url=False), key=lambda mistake: mistake["type"] != "extra_forbidden")
    place = first["loc"]
    named = ("models",)  # a name below it may be the word for a kind
    path = [str(part) for index, part in enumerate(place) if part not in NETWORKS or place[:index] == named]
    match first["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(place[-1]), _known_keys(), n=1)
            problem = f"unknown key: {f'did you mean {close[0]}?' if close else 'remove it'}"
        case "missing":
            problem = "missing: give it a value (docs/parameters.md describes it)"
        case "value_error":
            problem = str(first["ctx"]["error"])
        case "union_tag_invalid" | "union_tag_not_found":  # their input is the whole entry
            path.append(first["ctx"]["discriminator"].strip("'"))
            given = shown(first["ctx"]["tag"]) if "tag" in first["ctx"] else "missing"
            problem = f"must be one of {', '.join(map(repr, NETWORKS))}, not {given}"
        case _:
            problem = f"{first['msg'][0].lower()}{first['msg'][1:]}, not {shown(first['input'])}"
    return f"{'.'.join(map(_plain, path)) or 'the file'}: {problem}"


def shown(value: object) -> str:
    """Return how a value stands in an error: printable, on one line, cut where it is long.

    >>> shown("a\\x1b[0m"), shown([1, [2, [3]]])
    ("'a\\\\x1b[0m'", '[1, [2, [...]]]')
    """
    return _SHORT.repr(value)


def _plain(text: str) -> str:
    """Return a short, printable text as it stands, any other as `shown`."""
    return text if text.isprintable() and len(text) <= LONGEST_PLAIN else shown(text)


def _known_keys() -> set[str]:
    """Return the keys of all sections that are defined."""
    sections = [Strict]
    keys = set[str]()
    while sections:
        section = sections.pop()
        sections.extend(section.__subclasses__())
        keys.update(section.model_fields)
    return keys
