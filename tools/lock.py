"""Write requirements/*.txt: the packages of an install, at the versions of constraints.txt, with their files' hashes.

    python -m tools.lock        (make lock; needs uv and the package registry)

pip refuses a file whose hash is not listed. torch and what it brings for a GPU are not listed: its builds for CPU, CUDA
and ROCm share one version, and which one is right depends on the machine. constraints.txt pins its version.
"""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
LOCKS = {  # file: extras; none: what builds a package
    "build.txt": (),
    "runtime-cpu.txt": ("cpu", "serve"),
    "runtime-gpu.txt": ("gpu", "serve"),
    "training.txt": ("pipeline",),
    "development.txt": ("dev",),
    "fuzz.txt": ("fuzz",),
    "release.txt": ("release",),
}
OF_TORCH = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")
HEAD = "# Written by `make lock`: {what} for Python 3.11 or newer on every platform{without}.\n"


def lock(extras: tuple[str, ...]) -> str:
    """Return the requirements of these extras."""
    command = "uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate"
    source = [*(f"--extra={extra}" for extra in extras), "pyproject.toml"] if extras else ["-"]
    builders = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    done = subprocess.run(
        [*command.split(), "-c", "constraints.txt", *source],
        cwd=ROOT,
        input="\n".join(builders),
        capture_output=True,
        text=True,
        check=True,
    )
    packages = re.split(r"\n(?=\S)", done.stdout.strip())
    with_torch = any(package.startswith("torch==") for package in packages)
    kept = [package for package in packages if not (with_torch and OF_TORCH.match(package))]
    what = f"[{','.join(extras)}]" if extras else "what builds a package"
    without = ", without torch and what it brings for a GPU" if with_torch else ""
    return HEAD.format(what=what, without=without) + "\n".join(kept) + "\n"


def main() -> None:
    """Write every lock file."""
    FOLDER.mkdir(exist_ok=True)
    for name, extras in LOCKS.items():
        (FOLDER / name).write_text(lock(extras), encoding="utf-8")
        print(f"requirements/{name} written")


if __name__ == "__main__":
    main()
