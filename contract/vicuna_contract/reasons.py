"""Every reason that a termination message can have, and every warning of a merge, in CamelCase.

What each means and what to do is in docs/merging.md and docs/troubleshooting.md. Tests hold this list, those pages and
what the containers say in their code against each other.
"""

from typing import Final

__all__ = ["FORMER_REASONS", "MERGED", "MERGE_REASONS", "MERGE_WARNINGS", "PRUNED", "SERVE_REASONS"]

MERGED: Final = "Merged"
"""A merge left an artifact, newly made or found."""

PRUNED: Final = "Pruned"
"""A clean-up is done."""

MERGE_REASONS: Final = frozenset(
    {
        "AlreadyMerged",
        "AmbiguousDelta",
        "ArtifactDamaged",
        "ArtifactNotFound",
        "ChatTemplateBroken",
        "ChatTemplateUnknown",
        "ConfigBroken",
        "ConfigMismatch",
        "DigestMismatch",
        "DuplicateTensor",
        "EmptyTensors",
        "ExtraMissing",
        "InternalError",
        "Interrupted",
        "IsAnAdapter",
        "KindMismatch",
        "LegacyPickle",
        "LinkLeavesSource",
        "LockLost",
        "ManifestBroken",
        "ModelUnsupported",
        "NonFinite",
        "NotABase",
        "NotACheckpoint",
        "NotADelta",
        "NotAModel",
        "NotAPlainModel",
        "NotAnAdapter",
        "OutOfSpace",
        "OutputNotWritable",
        "QuantizedSource",
        "RemoteCode",
        "SameCheckpoint",
        "ShapeMismatch",
        "SourceForbidden",
        "SourceNotFound",
        "SourceUnreachable",
        "SourceUnsupported",
        "StorageFailed",
        "TensorMissing",
        "TokenNotSafe",
        "TokenizerBroken",
        "TruncatedShard",
        "UnexpectedTensors",
        "UnsafePickle",
        "UnsupportedAdapter",
        "UnsupportedDtype",
        "UsageError",
        "VocabularyMismatch",
    }
)
"""Why a command on weights or artifacts failed."""

FORMER_REASONS: Final = {"ClaimLost": "LockLost"}
"""What containers of earlier versions say, and what that is called now."""

MERGE_WARNINGS: Final = frozenset(
    {
        "AdapterConfigIgnored",
        "AdapterFilesIgnored",
        "ArtifactReplaced",
        "BaseLossy",
        "ChecksumDiffers",
        "ChecksumUnknown",
        "ConfigDiffers",
        "ContextTooSmall",
        "ConversionLossy",
        "EndIsText",
        "GenerationFieldsIgnored",
        "HeadNotTied",
        "HubUnsteady",
        "IndexIgnored",
        "ModelUnsupported",
        "NotCompared",
        "QuantizationIgnored",
        "RemoteCode",
        "RoundTripDiffers",
        "StagingRemoved",
        "TensorsIgnored",
        "TokenIdsRepaired",
        "TokenizerDisagrees",
        "TokensWithoutRow",
    }
)
"""Warnings about weights, which stop nothing."""

SERVE_REASONS: Final = frozenset(
    {
        "AddressUnusable",
        "ArtifactDamaged",
        "ArtifactMismatch",
        "ChatTemplateBroken",
        "ChatTemplateUnknown",
        "ConfigIncomplete",
        "ContextLengthTooLarge",
        "ContextTooSmall",
        "DeviceUnavailable",
        "EncodingHung",
        "EngineHung",
        "EngineIncompatible",
        "EngineLost",
        "EngineStopped",
        "ExtraMissing",
        "GenerationFailed",
        "GrammarStuck",
        "InternalError",
        "KvCacheTooSmall",
        "LoadFailed",
        "ManifestBroken",
        "ModelBroken",
        "ModelNotFound",
        "ModelUnsupported",
        "NonFiniteLogits",
        "NotLoaded",
        "OutOfMemory",
        "PortInUse",
        "QuantizationUnavailable",
        "SmokeTestFailed",
        "StartFailed",
        "TensorMissing",
        "TokenizerBroken",
        "UsageError",
    }
)
"""Why a server could not start, or ended."""
