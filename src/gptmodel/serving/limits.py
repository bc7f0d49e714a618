"""What a server takes on."""

from dataclasses import dataclass

from gptmodel.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a server takes on; `UserError` for a number that makes no sense."""

    max_concurrent: int  # texts decoded together
    max_queue: int  # texts that wait for a place
    max_tokens: int  # generated per text
    max_prompt_characters: int  # of a request

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = int(name != "max_queue")
            if value < least:
                raise UserError(f"{name.replace('_', '-')} must be {least} or above, not {value}")

    @property
    def body_bytes(self) -> int:
        """The longest body: a JSON string takes at most 12 bytes per character."""
        return 12 * self.max_prompt_characters + (1 << 16)
