"""Texts → token ids: what the job uses of the encoder."""

from batchsent.stages.encoder.texts import Encoder

__all__ = ["Encoder"]
