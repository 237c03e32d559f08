"""The paper, one part a file: episodes, attention, context, encoders, baselines, training, evaluation.

`from matchnet import OneShotClassifier` is for anyone's pictures.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matchnet.pictures.one_shot import OneShotClassifier

__all__ = ["OneShotClassifier"]


def __getattr__(name: str) -> Any:
    """Imports torch and Pillow only when it is asked for: processes that decode do without torch."""
    if name == "OneShotClassifier":
        from matchnet.pictures.one_shot import OneShotClassifier

        return OneShotClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
