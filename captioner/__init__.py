"""An explainable image captioner: every word of a caption with the regions of the photograph it came from."""

from captioner.explanation import AlternativeCaption, ExplainedCaption, ExplainedWord, ExplanationError
from captioner.hub import ModelError
from captioner.photographs import PhotographError
from captioner.predictor import Captioner, PrefixError, load

__all__ = [
    "AlternativeCaption",
    "Captioner",
    "ExplainedCaption",
    "ExplainedWord",
    "ExplanationError",
    "ModelError",
    "PhotographError",
    "PrefixError",
    "load",
]
