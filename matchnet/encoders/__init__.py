"""What a sample is embedded with before it sees the episode: f' and g' of the paper."""

from matchnet.encoders.conv4 import Conv4, Conv4Spec

EncoderSpec = Conv4Spec
Encoder = Conv4


def build_encoder(spec: EncoderSpec, sample_shape: tuple[int, ...]) -> Encoder:
    """The encoder that a spec describes, for samples of this shape; its `embedding_size` is D."""
    return Conv4(spec, sample_shape)
