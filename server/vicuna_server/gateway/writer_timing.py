"""How often usage is written to the store."""

from dataclasses import dataclass

__all__ = ["Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals of the writer, in seconds.

    Attributes:
        write: between two writes of what was counted.
        quota: between two rounds that ask for quotas.
        renew: between two writes while a quota has unspent tokens.
        idle: after which the unspent tokens of an idle key are given back.
        retry: after a failure.
        absent: until the store is tried again where there is none.
    """

    write: float = 5.0
    quota: float = 1.0
    renew: float = 10.0
    idle: float = 30.0
    retry: float = 5.0
    absent: float = 60.0
