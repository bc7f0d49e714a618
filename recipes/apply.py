"""Recipes: complete parameter files for one corpus and one machine; this script lists them and applies one.

    python recipes/apply.py                         list them
    python recipes/apply.py tinyshakespeare-cpu     make it params.yaml

A recipe is a params.yaml, nothing else: `diff params.yaml recipes/NAME.yaml` compares, `cp params.yaml
recipes/mine.yaml` makes one. Left out on purpose: merging; what a recipe says is all that counts.
"""

import argparse
import difflib
import subprocess
from pathlib import Path
from typing import NoReturn

from gptmodel import files, layout, params
from gptmodel.errors import UserError, one_line_errors

RECIPES = Path("recipes")
PARAMS = layout.PARAMS


def apply(name: str, force: bool = False) -> None:
    """Make recipes/`name`.yaml the params.yaml of the folder one is in.

    Raises:
        UserError: there is no such recipe, it is not valid, or params.yaml has values that stand nowhere else
            (in no recipe and not in git's last commit), which `force` overwrites.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        known = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none'}"
        raise UserError(f"unknown recipe {name!r} in {RECIPES}/: {hint}")
    params.load(path)
    if not force and PARAMS.exists() and not _stands_elsewhere(PARAMS.read_bytes()):
        raise UserError(
            f"{PARAMS} has changes that would be lost: keep them with `cp {PARAMS} {RECIPES}/mine.yaml`, or drop them "
            "with --force"
        )
    files.write_text(PARAMS, path.read_text(encoding="utf-8"))


def _stands_elsewhere(content: bytes) -> bool:
    """Return whether some recipe or git's last commit has the same text."""
    if any(path.read_bytes() == content for path in RECIPES.glob("*.yaml")):
        return True
    try:
        committed = subprocess.run(["git", "show", f"HEAD:./{PARAMS}"], capture_output=True, check=False)
    except OSError:  # no git
        return False
    return committed.returncode == 0 and committed.stdout == content


def titles() -> dict[str, str]:
    """Return the first line of each recipe, its comment mark removed, by name."""
    return {
        path.stem: path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        for path in sorted(RECIPES.glob("*.yaml"))
    }


class Parser(argparse.ArgumentParser):
    """A wrong call is a line as any other bad input."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


@one_line_errors()
def main() -> None:
    """List the recipes, or apply the one named on the command line."""
    parser = Parser(prog="python recipes/apply.py", description="Make a recipe the params.yaml.")
    parser.add_argument("name", nargs="?", help="a file of recipes/ without .yaml; without it, they are listed")
    parser.add_argument("--force", action="store_true", help="overwrite changes of params.yaml that stand nowhere else")
    arguments = parser.parse_args()
    if not arguments.name:
        for name, title in titles().items():
            print(f"{name:24} {title}")
        return
    apply(arguments.name, arguments.force)
    print(f"{PARAMS} is now {RECIPES}/{arguments.name}.yaml: `dvc params diff` shows the change, `make repro` runs it")


if __name__ == "__main__":
    main()
