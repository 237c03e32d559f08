"""Full context embeddings against appendix A, equation by equation, with an LSTM written out by hand."""

import pytest
import torch
from torch import Tensor, nn

from matchnet.context import FullContext, FullContextSpec, QueryContext, SupportContext, read

D = 4


def lstm(x: Tensor, h: Tensor, c: Tensor, W_x: Tensor, W_h: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One step for one vector; the weights stack gates i and f, candidate g and gate o, as torch does."""
    i, f, g, o = (W_x @ x + W_h @ h + b).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def slow_query_context(module: QueryContext, f_prime: Tensor, support_SD: Tensor, K: int) -> Tensor:
    """h_K for one query. The recurrent input of the LSTM is the concatenation [h, r], of size 2D."""
    W_ih, W_hh = module.cell.weight_ih, module.cell.weight_hh
    W_x, W_r = W_ih[:, :D], W_ih[:, D:]
    W_hr = torch.cat([W_hh, W_r], dim=1)  # (4D, 2D): one matrix for [h, r]
    b = module.cell.bias_ih + module.cell.bias_hh
    h, c = torch.zeros(D), torch.zeros(D)
    for _ in range(K):
        weights = torch.stack([h @ g_i for g_i in support_SD])
        a = weights.exp() / weights.exp().sum()                               # (6)
        r = sum((a_i * g_i for a_i, g_i in zip(a, support_SD, strict=True)), torch.zeros(D))  # (5)
        h_hat, c = lstm(f_prime, torch.cat([h, r]), c, W_x, W_hr, b)          # (3)
        h = h_hat + f_prime                                                   # (4)
    return h


def slow_support_context(module: SupportContext, support_SD: Tensor) -> list[Tensor]:
    """g(x_i, S) = forward h_i + backward h_i + g'(x_i), the backward recursion starting from i = |S|."""
    W_x, W_h, b_x, b_h, W_x_back, W_h_back, b_x_back, b_h_back = module.lstm.parameters()
    forward: list[Tensor] = []
    backward: list[Tensor] = []
    h, c = torch.zeros(D), torch.zeros(D)
    for g_prime in support_SD:
        h, c = lstm(g_prime, h, c, W_x, W_h, b_x + b_h)
        forward.append(h)
    h, c = torch.zeros(D), torch.zeros(D)
    for g_prime in reversed(list(support_SD)):
        h, c = lstm(g_prime, h, c, W_x_back, W_h_back, b_x_back + b_h_back)
        backward.insert(0, h)
    return [f + b + g for f, b, g in zip(forward, backward, support_SD, strict=True)]


def embeddings(E: int = 2, Q: int = 3, S: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(E, Q, D, generator=generator), torch.randn(E, S, D, generator=generator)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("K", [1, 2, 5])
@torch.no_grad()
def test_query_context_is_equations_3_to_6(K: int) -> None:
    module = QueryContext(D, K)
    query_EQD, support_ESD = embeddings()
    ours = module(query_EQD, support_ESD)
    for e in range(2):
        for q in range(3):
            slow = slow_query_context(module, query_EQD[e, q], support_ESD[e], K)
            torch.testing.assert_close(ours[e, q], slow)


@torch.no_grad()
def test_support_context_is_appendix_a2() -> None:
    module = SupportContext(D)
    _, support_ESD = embeddings()
    ours = module(support_ESD)
    for e in range(2):
        torch.testing.assert_close(ours[e], torch.stack(slow_support_context(module, support_ESD[e])))


@torch.no_grad()
def test_queries_attend_to_the_embedded_support_not_to_the_raw_one() -> None:
    """f(x^, S) = attLSTM(f'(x^), g(S), K): g with its context, and S without the queries."""
    context = FullContext(FullContextSpec(num_steps=3), D)
    query_EQD, support_ESD = embeddings()
    f, g = context(query_EQD, support_ESD)
    for e in range(2):
        g_slow = torch.stack(slow_support_context(context.support, support_ESD[e]))
        torch.testing.assert_close(g[e], g_slow)
        torch.testing.assert_close(f[e, 1], slow_query_context(context.query, query_EQD[e, 1], g_slow, 3))


@torch.no_grad()
def test_skip_connections_pass_the_embeddings_through_a_silent_lstm() -> None:
    """With all weights zero the gates let nothing out, and what is left is f' and g'."""
    context = FullContext(FullContextSpec(), D)
    for parameter in context.parameters():
        nn.init.zeros_(parameter)
    query_EQD, support_ESD = embeddings()
    f, g = context(query_EQD, support_ESD)
    assert torch.equal(f, query_EQD) and torch.equal(g, support_ESD)


@torch.no_grad()
def test_first_read_is_the_mean_and_a_long_h_reads_its_nearest() -> None:
    _, support_ESD = embeddings()
    torch.testing.assert_close(read(torch.zeros(2, 1, D), support_ESD)[:, 0], support_ESD.mean(1))
    h_EQD = support_ESD[:, 4:5] * 1e4
    best = (h_EQD @ support_ESD.mT).argmax(-1)[:, 0]
    torch.testing.assert_close(read(h_EQD, support_ESD)[:, 0], support_ESD[torch.arange(2), best])


@torch.no_grad()
def test_the_order_of_the_support_matters_to_g_alone() -> None:
    """g reads S as a sequence; f reads the set g(S), whatever its order."""
    query_EQD, support_ESD = embeddings()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    support = SupportContext(D)
    assert not torch.allclose(support(support_ESD)[:, order], support(support_ESD[:, order]), atol=1e-3)
    query = QueryContext(D, 4)
    torch.testing.assert_close(query(query_EQD, support_ESD), query(query_EQD, support_ESD[:, order]))


@torch.no_grad()
def test_queries_and_episodes_do_not_see_one_another() -> None:
    context = FullContext(FullContextSpec(3), D)
    query_EQD, support_ESD = embeddings()
    f, g = context(query_EQD, support_ESD)
    f_alone, g_alone = context(query_EQD[1:, 2:], support_ESD[1:])
    torch.testing.assert_close(f[1:, 2:], f_alone)
    torch.testing.assert_close(g[1:], g_alone)


def test_gradient_reaches_every_weight_and_both_inputs() -> None:
    context = FullContext(FullContextSpec(2), D)
    query_EQD, support_ESD = (t.requires_grad_() for t in embeddings())
    f, g = context(query_EQD, support_ESD)
    (f.square().sum() + g.square().sum()).backward()
    leaves = dict(context.named_parameters()) | {"query": query_EQD, "support": support_ESD}
    assert [name for name, t in leaves.items() if t.grad is None or not t.grad.any()] == []


@torch.no_grad()
def test_autocast_keeps_the_context_in_32_bits() -> None:
    context = FullContext(FullContextSpec(3), D)
    query_EQD, support_ESD = (t.bfloat16() for t in embeddings())
    with torch.autocast("cpu", torch.bfloat16):
        inside = context(query_EQD, support_ESD)
    outside = context(query_EQD.float(), support_ESD.float())
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_at_least_one_step() -> None:
    with pytest.raises(ValueError, match=r"num_steps is 0; .* at least once \(K >= 1\)"):
        FullContextSpec(num_steps=0)
