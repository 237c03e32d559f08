"""Full context embeddings (FCE): embed each sample in the light of the whole support set  [section 2.1.2, appendix A].

Shapes: E episodes, S support items, Q queries, D embedding, K processing steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from matchnet.attention import is_large, similarity
from matchnet.running_attention import at_least_float32, read_in_chunks


@dataclass(frozen=True)
class FullContextSpec:
    """Full context embeddings  [Vinyals et al. 2016, section 2.1.2 and appendix A].

    Args:
        num_steps: K, how often a query reads the support set. The paper does not say its value.
    """

    num_steps: int = 5

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; FCE reads the support set at least once (K >= 1)")


class FullContext(nn.Module):
    """(f'(x^), g'(x_i)) -> (f(x^, S), g(x_i, S)).

    in_chunks: the queries' scores are never all held; see `read`. The LSTMs' activations are all held: for the
        backward pass 34 numbers for each of S x D, and 10 for each of K x Q x D.
    """

    def __init__(self, spec: FullContextSpec, embedding_size: int) -> None:
        super().__init__()
        self.support = SupportContext(embedding_size)
        self.query = QueryContext(embedding_size, spec.num_steps)

    def forward(self, query_EQD: Tensor, support_ESD: Tensor, in_chunks: bool = False) -> tuple[Tensor, Tensor]:
        with torch.autocast(query_EQD.device.type, enabled=False):  # bf16 is too coarse for exp, as in attention
            query_EQD, support_ESD = at_least_float32(query_EQD), at_least_float32(support_ESD)
            support_ESD = self.support(support_ESD)
            return self.query(query_EQD, support_ESD, in_chunks), support_ESD


class SupportContext(nn.Module):
    """g(x_i, S) = forward h_i + backward h_i + g'(x_i)      [A.2]

    A bidirectional LSTM reads S as a sequence, in the order that the episode drew. The three are added, as printed.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(embedding_size, embedding_size, batch_first=True, bidirectional=True)

    def forward(self, support_ESD: Tensor) -> Tensor:
        forward_ESD, backward_ESD = self.lstm(support_ESD)[0].chunk(2, dim=-1)
        return forward_ESD + backward_ESD + support_ESD


class QueryContext(nn.Module):
    """f(x^, S) = attLSTM(f'(x^), g(S), K) = h_K      [A.1]

        h^_k, c_k = LSTM(f'(x^), [h_{k-1}, r_{k-1}], c_{k-1})    (3)
        h_k       = h^_k + f'(x^)                                (4)
        r_{k-1}   = sum_i a(h_{k-1}, g(x_i)) g(x_i)              (5)
        a         = softmax over i of h_{k-1}^T g(x_i)           (6)

    The LSTM's recurrent input is [h, r], twice the size of its cell. Its gates are linear, so W [h, r] = W_h h + W_r r:
    the cell below takes h as its hidden state and r beside f'(x^) as input, which is the same function.
    The paper does not say what h_0 and c_0 are: zero here, so the first read r_0 is the mean of the support set.
    """

    def __init__(self, embedding_size: int, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.cell = nn.LSTMCell(2 * embedding_size, embedding_size)

    def forward(self, query_EQD: Tensor, support_ESD: Tensor, in_chunks: bool = False) -> Tensor:
        size = query_EQD.shape
        h_EQD = torch.zeros_like(query_EQD)
        c_BD = query_EQD.new_zeros(size[0] * size[1], size[2])
        for _ in range(self.num_steps):
            read_EQD = read(h_EQD, support_ESD, in_chunks)
            input_BD = torch.cat([query_EQD, read_EQD], dim=-1).flatten(0, 1)
            cell_h_BD, c_BD = self.cell(input_BD, (h_EQD.flatten(0, 1), c_BD))
            h_EQD = cell_h_BD.view(size) + query_EQD
        return h_EQD


def read(h_EQD: Tensor, support_ESD: Tensor, in_chunks: bool = False) -> Tensor:
    """r = sum_i softmax_i(h^T g(x_i)) g(x_i)      [eq. 5 and 6], (E, Q, D). No weights of its own.

    in_chunks: never hold all scores. Without a gradient, very many scores are computed in chunks in any case.
    """
    if in_chunks or (not torch.is_grad_enabled() and is_large(h_EQD, support_ESD)):
        return read_in_chunks(h_EQD, support_ESD)
    return similarity("dot_product", h_EQD, support_ESD).softmax(dim=-1) @ support_ESD
