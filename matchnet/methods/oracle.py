"""The oracle of Table 3: a classifier that has seen the test classes in training  [Vinyals et al. 2016, section 4.1.2].

"The Oracle (trained on all classes) performs almost perfectly when restricted to 5 classes only": a bound on what
one-shot learning could reach, not one of its methods.
"""

from torch import Tensor

from matchnet.episodes import Episodes
from matchnet.methods.base import Batch, Method
from matchnet.methods.classifier import Classifier
from matchnet.store import MemoryStore


class Oracle(Method):
    """The full softmax of `classifier`, restricted to an episode's N classes; of the support set, only their names.

    Args:
        output_C: int64, the classifier's output for the class at each position of the episodes' ClassRows.
    """

    output_C: Tensor

    def __init__(self, classifier: Classifier, output_C: Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("output_C", output_C)

    def embed(self, sample_B: Tensor) -> Tensor:
        """Logits of the classes that may occur, (B, C), in the order of their positions."""
        return self.classifier.softmax(self.classifier.embed(sample_B))[:, self.output_C]

    def classify_rows(self, features: MemoryStore, episodes: Episodes) -> Tensor:
        """P(y = n | x) by the full softmax, given that y is one of the N classes: a softmax over their logits."""
        logits_EQC = features.gather(episodes.query_EQ)
        class_EQN = episodes.class_EN.to(logits_EQC.device).unsqueeze(1).expand(-1, logits_EQC.shape[1], -1)
        return logits_EQC.gather(2, class_EQN).log_softmax(-1)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        raise NotImplementedError("an oracle has to know which classes the ways are: see classify_rows")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError("train the classifier, with the test classes among its classes, then wrap it")

