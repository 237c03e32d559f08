"""Training on running text: truncated back-propagation through time, over parallel streams of it.

The text, one sentence after another, is cut into `num_streams` streams of equal length, which are read side by side.
Step t is a window of `window` tokens of each stream. The LSTM goes on from its state at the end of the window before.
At the end of the text it begins again from nothing.

Shapes: T positions in time, B streams, V tokens there are, D directions.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from matchnet.methods.base import Method
from matchnet.running_text import TextBatch, TextModel, one_stream
from matchnet.training import Task, TrainingSpec, Values


@dataclass(frozen=True, kw_only=True)
class TextSpec(TrainingSpec):
    """Training a language model on running text.

    Args:
        targets: the words that are predicted: `all` of the vocabulary, or those of the training classes alone, together
            with tokens that are never a class, such as `<unk>`. Other words are read as context, but never predicted.
        num_streams: places of the text that are read side by side.
        window: tokens of each stream in a step. Gradients stop at its beginning.
    """

    targets: Literal["all", "train"] = "all"
    num_streams: int = 20
    window: int = 35

    fused_on_cpu: ClassVar[bool] = True  # 5 million weights: 8 ms a step in place of 24

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("num_streams", "window")
        if self.accumulate > 1:
            raise ValueError(f"accumulate is {self.accumulate}; the parts of a text follow one another: write 1 and "
                             "lower num_streams or window")

    @property
    def most_shares(self) -> int:
        """The state goes from step to step: one worker has all of it."""
        return 1


@dataclass(frozen=True)
class TextData:
    """Texts are int64 tokens, END after each sentence; target_R the tokens that are predicted, frequent ones first."""

    token_T: Tensor
    target_R: Tensor
    valid_token_T: Tensor | None = None


class TextTask(Task):
    """Raises ValueError for a text too short for one window."""

    def __init__(self, data: TextData, spec: TextSpec) -> None:
        self.data = data
        self.spec: TextSpec = spec
        self.units = {"tokens": spec.num_streams * spec.window}
        self.stream_DTB = torch.stack([_streams(data.token_T, direction, spec.num_streams) for direction in (0, 1)])
        self.windows = (self.stream_DTB.shape[1] - 1) // spec.window  # windows of an epoch
        if not self.windows:
            raise ValueError(f"a text of {len(data.token_T)} tokens for num_streams = {spec.num_streams} with a window "
                             f"of {spec.window}: no stream is so long; lower one of them")
        self.state: Tensor | None = None

    def check(self, world_size: int) -> None:
        if world_size > self.spec.most_shares:
            raise ValueError(f"compute.num_workers is {world_size}: a language model carries its state from step to "
                             "step and trains in one worker; set it to 1")

    def begin(self, method: Method, device: torch.device | str) -> None:
        """Tell the method which words are the targets."""
        assert isinstance(method, TextModel)
        method.set_targets(self.data.target_R)

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[TextBatch, float]:
        first = step % self.windows * self.spec.window
        token_DTB = self.stream_DTB[:, first:first + self.spec.window + 1].to(device)
        return TextBatch(token_DTB, None if first == 0 else self.state), 1.0

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        """The perplexity of the validation text."""
        if self.data.valid_token_T is None:
            return None
        assert isinstance(method, TextModel)
        return {"valid_perplexity": method.perplexity(self.data.valid_token_T.to(device))}

    def after_step(self, result: Values) -> None:
        self.state = result["state"]

    def state_dict(self) -> Values:
        return {"state": self.state}

    def load_state_dict(self, state: Values, device: torch.device | str) -> None:
        self.state = state["state"].to(device)


def _streams(token_T: Tensor, direction: int, num_streams: int) -> Tensor:
    """(T + 1, B): equal streams of a text as a direction reads it; each begins with the last token of another."""
    text_T = one_stream(token_T, direction).squeeze(1)
    length = (len(text_T) - 1) // num_streams
    starts_B = torch.arange(num_streams) * length
    return text_T[starts_B + torch.arange(length + 1).unsqueeze(1)]
