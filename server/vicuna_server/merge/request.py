"""What a merge is asked to do."""

from dataclasses import dataclass

from vicuna_contract.merge_arguments import MergeArguments
from vicuna_server.errors import UsageError
from vicuna_server.merge.arithmetic.layout import LEAST_SHARD_BYTES
from vicuna_server.merge.inputs import Sources, make_input

__all__ = ["CHUNK_BYTES", "Request"]

CHUNK_BYTES = 8 * 1024 * 1024  # per buffer; the contract allows 16 MiB
_LEAST_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Request(MergeArguments):
    """The command line of a merge, understood.

    Attributes:
        least_shard_bytes: output files are not cut smaller than this.
        verify_found: an artifact that is there is read in full before it is believed.
    """

    least_shard_bytes: int = LEAST_SHARD_BYTES
    verify_found: bool = False

    @property
    def chunk_bytes(self) -> int:
        """Size of one step: small enough that a rate is held evenly."""
        rate = self.max_bytes_per_second
        return max(_LEAST_CHUNK_BYTES, min(CHUNK_BYTES, rate // 4)) if rate else CHUNK_BYTES

    def sources(self) -> Sources:
        """Understand the URIs and digests.

        Raises:
            UsageError: one is malformed, a digest has no source, or a checksum has nothing to be of.
        """
        if self.alpaca_checksum and (self.adapters or not self.delta):
            raise UsageError(
                "--alpaca-checksum compares the sum of base and Stanford's delta: give --delta, and no --adapter"
            )
        delta = None
        if self.delta:
            delta = make_input("delta", "--delta", self.delta, "--delta-digest", self.delta_digest)
        elif self.delta_digest:
            raise UsageError("--delta-digest needs --delta")
        return Sources(
            make_input("base", "--base", self.base, "--base-digest", self.base_digest),
            delta,
            tuple(
                make_input(f"adapter-{number}", "--adapter", uri, "--adapter-digest", digest)
                for number, (uri, digest) in enumerate(self.adapters)
            ),
        )
