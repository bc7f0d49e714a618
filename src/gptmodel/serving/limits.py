"""What a server takes on."""

from dataclasses import dataclass

from gptmodel.errors import UserError

BESIDE = 256  # connections that ask for no text: idle ones, pages, health and metrics
MOST = {"max_concurrent": 4096, "max_queue": 1 << 20, "max_tokens": 10**9, "max_prompt_characters": 10**7}


@dataclass(frozen=True)
class Limits:
    """What a server takes on; `UserError` for a number that makes no sense."""

    max_concurrent: int  # texts decoded together
    max_queue: int  # texts that wait for a place
    max_tokens: int  # generated per text
    max_prompt_characters: int  # of a request

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least, most = int(name != "max_queue"), MOST[name]
            if not least <= value <= most:
                bound = f"{least} or above" if value < least else f"{most:,} or below"
                raise UserError(f"--{name.replace('_', '-')} must be {bound}, not {value}")

    @property
    def connections(self) -> int:
        """The most connections: one for each text that may run or wait, as many that hear of 429, and some."""
        return 2 * (self.max_concurrent + self.max_queue) + BESIDE

    @property
    def body_bytes(self) -> int:
        """The longest body: a JSON string takes at most 12 bytes per character."""
        return 12 * self.max_prompt_characters + (1 << 16)
