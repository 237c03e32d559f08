"""What a sample is embedded with before it sees the episode: f' and g' of the paper."""

from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.encoders.language_model import LanguageModelStates, LanguageModelStatesSpec

# Told apart by their `name`.
EncoderSpec = Conv4Spec | LanguageModelStatesSpec
Encoder = Conv4 | LanguageModelStates


def build_encoder(spec: EncoderSpec, sample_shape: tuple[int, ...]) -> Encoder:
    """The encoder that a spec describes, for samples of this shape; its `embedding_size` is D."""
    match spec:
        case Conv4Spec():
            return Conv4(spec, sample_shape)
        case LanguageModelStatesSpec():
            return LanguageModelStates(spec, sample_shape)
