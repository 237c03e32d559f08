"""Encoders: they embed a sample before it sees the episode, as f' and g' of the paper."""

from matchnet.encoders.bag_of_words import BagOfWords, BagOfWordsSpec
from matchnet.encoders.bilstm import BiLstm, BiLstmSpec
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.encoders.inception import InceptionSpec, InceptionV3
from matchnet.encoders.language_model import LanguageModelStates, LanguageModelStatesSpec
from matchnet.encoders.window import Window, WindowSpec

# The field `name` tells the specs apart.
EncoderSpec = Conv4Spec | InceptionSpec | BagOfWordsSpec | WindowSpec | BiLstmSpec | LanguageModelStatesSpec
Encoder = Conv4 | InceptionV3 | BagOfWords | Window | BiLstm | LanguageModelStates


def build_encoder(spec: EncoderSpec, sample_shape: tuple[int, ...]) -> Encoder:
    """The encoder that a spec describes, with fresh weights."""
    match spec:
        case Conv4Spec():
            return Conv4(spec, sample_shape)
        case InceptionSpec():
            return InceptionV3(spec, sample_shape)
        case BagOfWordsSpec():
            return BagOfWords(spec, sample_shape)
        case WindowSpec():
            return Window(spec, sample_shape)
        case BiLstmSpec():
            return BiLstm(spec, sample_shape)
        case LanguageModelStatesSpec():
            return LanguageModelStates(spec, sample_shape)
