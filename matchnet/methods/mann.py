"""Meta-Learning with Memory-Augmented Neural Networks, Santoro, Bartunov, Botvinick et al. 2016 (ICML).

An episode is a sequence of presentations (x_t, y_{t-1}): each sample comes with the label of the one before
it, and the network predicts y_t. So the second time that a class is presented is one-shot classification.

Shapes: E sequences, T presentations, Q queries, N ways, C controller cells, H heads, M memory slots,
L numbers a slot.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.methods.base import Batch, Method, accuracy

NO_NORM = 1e-4  # an empty slot has a cosine of 0 with every key


@dataclass(frozen=True)
class MannSpec:
    """A memory-augmented network, of its paper's sizes. Labels are one-hot, so it serves tasks of `num_ways` ways only.

    Args:
        num_ways: ways of every task.
        image_size: images are shrunk to this many pixels a side before the controller sees them, as in the paper.
        num_cells: cells of the controller's LSTM.
        num_heads: heads that read, and as many that write.
        num_slots: slots of the memory.
        slot_size: numbers of a slot.
        usage_decay: gamma, how much of a slot's usage remains after a step.
        key_strength: factor of the cosine before the softmax over slots; each head learns its own from here on. The
            paper prints the cosine alone, whose softmax over 128 slots is near uniform; 1.0 starts there.
        read_first: true reads the memory before it is written, M_{t-1}. False reads after writing, M_t, as printed: a
            key then finds itself. We measured the accuracy in training on a 3-way problem of 8 x 8 patterns (one seed,
            300 steps of 16 sequences, 33% is chance). Reading first gave 68% with strength 10, and 36% with 1. Reading
            as printed gave 44% with 10, and 37% with 1.
    """

    name: Literal["mann"] = "mann"
    num_ways: int = 5
    image_size: int = 20
    num_cells: int = 200
    num_heads: int = 4
    num_slots: int = 128
    slot_size: int = 40
    usage_decay: float = 0.95
    key_strength: float = 10.0
    read_first: bool = True

    def __post_init__(self) -> None:
        for name in ("image_size", "num_cells", "num_heads", "slot_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_ways < 2:
            raise ValueError(f"num_ways is {self.num_ways}; it must be at least 2")
        if self.num_slots < self.num_heads:
            raise ValueError(f"num_slots is {self.num_slots} with {self.num_heads} heads; each head writes a "
                             f"slot of its own, so at least as many slots as heads")
        if not 0 <= self.usage_decay < 1:
            raise ValueError(f"usage_decay is {self.usage_decay}; it must be at least 0 and below 1")
        if not self.key_strength > 0:
            raise ValueError(f"key_strength is {self.key_strength}; it must be above 0")


class MemoryState(NamedTuple):
    memory_EML: Tensor
    read_weight_EHM: Tensor  # w^r of the last step
    usage_EM: Tensor  # w^u


class State(NamedTuple):
    """The network's state between one presentation and the next."""

    hidden_EC: Tensor
    cell_EC: Tensor
    read_ER: Tensor  # R = H L: what the heads read
    label_EN: Tensor  # label of the sample before, one-hot; zeros at the start
    memory: MemoryState

    def repeat(self, times: int) -> "State":
        """The state with each sequence repeated `times` times, (E * times, ...)."""
        tensors = [tensor.repeat_interleave(times, 0) for tensor in (*self[:4], *self.memory)]
        hidden, cell, read, label, *memory = tensors
        return State(hidden, cell, read, label, MemoryState(*memory))


class Mann(Method):
    """Presents the support set in the order of its episode, then each query from the state after it.

    So 5-way 1-shot is the second presentation of a class, and 5-shot the sixth.
    """

    def __init__(self, spec: MannSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.spec = spec
        read_size = spec.num_heads * spec.slot_size
        self.pixels = nn.Linear(sample_shape[0] * spec.image_size**2, 4 * spec.num_cells)
        self.label = nn.Linear(spec.num_ways, 4 * spec.num_cells, bias=False)
        self.recurrent = nn.Linear(spec.num_cells + read_size, 4 * spec.num_cells, bias=False)
        self.heads = nn.Linear(spec.num_cells, read_size + spec.num_heads)
        self.memory = LeastRecentlyUsedMemory(spec)
        self.output = nn.Linear(spec.num_cells + read_size, spec.num_ways)
        with torch.no_grad():
            # Larger than torch's own, so that keys and reads do not all start near 0. We have not measured its effect.
            self.heads.weight *= 4
            self.output.weight *= 4
            self.pixels.bias[spec.num_cells:2 * spec.num_cells] += 1  # the forget gate: remember, at first

    def embed(self, sample_B: Tensor) -> Tensor:
        """The share of the pixels in the controller's gates, (B, 4 C); each image shrunk and standardised."""
        size = (self.spec.image_size, self.spec.image_size)
        pixel_BP = F.interpolate(sample_B, size=size, mode="bilinear", antialias=True).flatten(1)
        return self.pixels(F.layer_norm(pixel_BP, pixel_BP.shape[1:], eps=1e-3))

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        """Raises ValueError if num_ways is not the one that the network was made for."""
        if num_ways != self.spec.num_ways:
            raise ValueError(f"a task of {num_ways} ways for a MANN of {self.spec.num_ways}: its labels are "
                             f"one-hot; evaluate tasks of {self.spec.num_ways} ways, or train another of {num_ways}")
        _, state = self.present(support_ES, way_ES)
        return self.ask(query_EQ, state).log_softmax(-1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy of every prediction: those along the support sequence, and the queries' after it."""
        support_ET, query_EQ = self.embed_batch(batch)
        logits_ETN, state = self.present(support_ET, batch.support_way_ES)
        logits_EQN = self.ask(query_EQ, state)
        all_logits = torch.cat([logits_ETN, logits_EQN], dim=1).flatten(0, 1)
        all_ways = torch.cat([batch.support_way_ES, batch.query_way_EQ], dim=1).flatten()
        query_accuracy_E = accuracy(logits_EQN, batch.query_way_EQ)
        return {"loss": F.cross_entropy(all_logits, all_ways), "accuracy": query_accuracy_E.mean()}

    def present(self, feature_ET: Tensor, way_ET: Tensor) -> tuple[Tensor, State]:
        """Present a sequence to the empty memory: (logits_ETN, the state after it, with the last label)."""
        label_ETN = F.one_hot(way_ET, self.spec.num_ways).float()
        state = self.start(feature_ET.float())
        logits = []
        for feature_E, label_EN in zip(feature_ET.unbind(1), label_ETN.unbind(1), strict=True):
            logits_EN, state = self.step(feature_E, state)
            logits.append(logits_EN)
            state = state._replace(label_EN=label_EN)
        return torch.stack(logits, dim=1), state

    def ask(self, query_EQ: Tensor, state: State) -> Tensor:
        """logits_EQN of each query as the next presentation: queries do not see one another."""
        E, Q = query_EQ.shape[:2]
        return self.step(query_EQ.flatten(0, 1), state.repeat(Q))[0].unflatten(0, (E, Q))

    def start(self, like: Tensor) -> State:
        spec, E = self.spec, len(like)
        zeros_EC, label_EN = like.new_zeros(E, spec.num_cells), like.new_zeros(E, spec.num_ways)
        read_ER = like.new_zeros(E, spec.num_heads * spec.slot_size)
        return State(zeros_EC, zeros_EC, read_ER, label_EN, self.memory.start(like))

    def step(self, feature_E: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one presentation: the controller, an LSTM over pixels, last label and last reads; then its heads."""
        with torch.autocast(feature_E.device.type, enabled=False):  # bf16 would lose the memory's small values
            return self._step(feature_E.float(), state)

    def _step(self, feature_E: Tensor, state: State) -> tuple[Tensor, State]:
        recurrent_E = self.recurrent(torch.cat([state.hidden_EC, state.read_ER], dim=1))
        gate_E, candidate_EC = (feature_E + self.label(state.label_EN) + recurrent_E).split(
            [3 * self.spec.num_cells, self.spec.num_cells], dim=1)
        input_EC, forget_EC, output_EC = gate_E.sigmoid().chunk(3, dim=1)
        cell_EC = forget_EC * state.cell_EC + input_EC * candidate_EC.tanh()
        hidden_EC = output_EC * cell_EC.tanh()

        key_ER, alpha_EH = self.heads(hidden_EC).split([state.read_ER.shape[1], self.spec.num_heads], dim=1)
        key_EHL = key_ER.tanh().unflatten(1, (self.spec.num_heads, -1))
        read_EHL, memory = self.memory(key_EHL, alpha_EH.sigmoid(), state.memory)
        read_ER = read_EHL.flatten(1)
        logits_EN = self.output(torch.cat([hidden_EC, read_ER], dim=1))
        return logits_EN, State(hidden_EC, cell_EC, read_ER, state.label_EN, memory)


class LeastRecentlyUsedMemory(nn.Module):
    """Read by content, write to what was read last or used least  [Santoro et al. 2016, section 3.2].

        w^r_t(i) = softmax over i of K(k_t, M(i)),  K the cosine         (2, 3), times key_strength here
        r_t      = sum_i w^r_t(i) M(i)                                   (4)
        w^u_t    = gamma w^u_{t-1} + w^r_t + w^w_t                       (5)
        w^lu_t   = 1 at the n least used slots by w^u_t, else 0          (6), n the number of heads
        w^w_t    = sigmoid(alpha) w^r_{t-1} + (1 - sigmoid(alpha)) w^lu_{t-1}    (7)
        M_t(i)   = M_{t-1}(i) + w^w_t(i) k_t                             (8), least used slots zeroed before

    alpha has no index in the paper, which calls it a scalar gate parameter: one learned number, or one that the
    controller emits? Here, as in public implementations, the controller emits one a head at each step, as it does the
    keys. The other reading is contained in it: where only the bias of that layer is not 0, alpha is a learned number.

    With several heads the paper leaves open which least used slot a head writes: here head h the h-th. Usage
    is the sum over heads, and carries no gradient, since which slot is least used has none.
    """

    def __init__(self, spec: MannSpec) -> None:
        super().__init__()
        self.spec = spec
        self.log_strength_H1 = nn.Parameter(torch.full((spec.num_heads, 1), spec.key_strength).log())

    def start(self, like: Tensor) -> MemoryState:
        E, spec = len(like), self.spec
        memory_EML = like.new_zeros(E, spec.num_slots, spec.slot_size)
        read_weight_EHM = like.new_zeros(E, spec.num_heads, spec.num_slots)
        return MemoryState(memory_EML, read_weight_EHM, like.new_zeros(E, spec.num_slots))

    def forward(self, key_EHL: Tensor, gate_EH: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        """Access the memory once with all heads' keys and sigmoid(alpha): (read_EHL, the state after it)."""
        write_weight_EHM, keep_EM = self.address_write(gate_EH, state)
        written_EML = torch.baddbmm(state.memory_EML * keep_EM.unsqueeze(2), write_weight_EHM.mT, key_EHL)
        memory_EML = state.memory_EML if self.spec.read_first else written_EML
        read_weight_EHM = self.address_read(key_EHL, memory_EML)
        used_EM = (read_weight_EHM + write_weight_EHM).detach().sum(1)
        usage_EM = self.spec.usage_decay * state.usage_EM + used_EM
        return torch.bmm(read_weight_EHM, memory_EML), MemoryState(written_EML, read_weight_EHM, usage_EM)

    def address_write(self, gate_EH: Tensor, state: MemoryState) -> tuple[Tensor, Tensor]:
        """(w^w_EHM, keep_EM): keep is 0 at the least used slots, to zero them before the write, else 1."""
        least_EH = state.usage_EM.topk(self.spec.num_heads, largest=False).indices
        least_EHM = torch.zeros_like(state.read_weight_EHM).scatter_(2, least_EH.unsqueeze(2), 1.0)
        gate_EH1 = gate_EH.unsqueeze(2)
        keep_EM = torch.ones_like(state.usage_EM).scatter_(1, least_EH, 0.0)
        return gate_EH1 * state.read_weight_EHM + (1 - gate_EH1) * least_EHM, keep_EM

    def address_read(self, key_EHL: Tensor, memory_EML: Tensor) -> Tensor:
        """w^r_EHM: softmax over the slots of the cosine with the key, times the strength."""
        slot_norm_E1M = (memory_EML.square().sum(-1) + NO_NORM**2).sqrt().unsqueeze(1)
        cosine_EHM = torch.bmm(F.normalize(key_EHL, dim=2), memory_EML.mT) / slot_norm_E1M
        return (cosine_EHM * self.log_strength_H1.exp()).softmax(-1)
