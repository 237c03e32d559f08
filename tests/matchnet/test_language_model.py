"""The language model: it learns and resumes bit for bit, never learns words that are no targets, and is an oracle."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from matchnet.encoders.language_model import ReaderSpec
from matchnet.methods import language_model
from matchnet.methods.language_model import LanguageModel, LanguageModelSpec
from matchnet.running_text import TextBatch, one_stream
from matchnet.text_training import TextData, TextSpec, TextTask
from matchnet.tokens import BEGIN, END, FIRST_WORD, PADDING
from matchnet.training import Callbacks, Worker, train

NUM_WORDS = 40  # tokens, the special ones included
CONTEXT = 9
TARGETS = torch.tensor([END, *range(FIRST_WORD, NUM_WORDS)])
SPEC = LanguageModelSpec(reader=ReaderSpec(NUM_WORDS, num_cells=16), cutoffs=(8, 20))
TRAINING = TextSpec(steps=50, num_streams=4, window=10, learning_rate=0.02, gradient_clip=1.0, valid_every=25,
                    checkpoint_every=15, log_every=10)
EACH_READER = pytest.mark.parametrize("change", [
    {}, {"direction": "both"}, {"dropout": 0.3}, {"direction": "both", "dropout": 0.3, "mask": "variational"}], ids=str)


def counting_text(num_sentences: int = 150) -> Tensor:
    """Each sentence counts upwards from a random word: predictable but for its first word."""
    generator = torch.Generator().manual_seed(0)
    first_Z = torch.randint(NUM_WORDS, (num_sentences, 1), generator=generator)
    word_ZT = FIRST_WORD + (first_Z + torch.arange(6)) % (NUM_WORDS - FIRST_WORD)
    return torch.cat([word_ZT, torch.full((num_sentences, 1), END)], dim=1).flatten()


DATA = TextData(counting_text(), TARGETS, counting_text()[:210])


def model_of(num_targets: int = len(TARGETS), seed: int = 0, **reader: Any) -> LanguageModel:
    torch.manual_seed(seed)
    return LanguageModel(replace(SPEC, reader=replace(SPEC.reader, **reader)), num_targets)


def trained(model: LanguageModel, spec: TextSpec = TRAINING, data: TextData = DATA,
            state: dict[str, Any] | None = None) -> tuple[list[dict[str, Any]], dict[int, Any]]:
    """What was reported and logged, and the states that were saved, by step."""
    lines: list[dict[str, Any]] = []
    states: dict[int, Any] = {}
    train(model, TextTask(data, spec), state=state, callbacks=Callbacks(
        report=lines.append, log=lines.append,
        save=lambda values: states.update({values["step"]: copy.deepcopy(values)})))
    return lines, states


# ---- training ----

@EACH_READER
def test_it_learns_to_count(change):
    """Untrained it is as lost as among 37 words; one word in seven cannot be known: at best 36^(1/7) = 1.7."""
    lines, _ = trained(model_of(**change), replace(TRAINING, steps=150))
    assert 1.6 < lines[-1]["valid_perplexity"] < 18


@EACH_READER
def test_a_resumed_run_ends_with_the_same_bits(change):
    """The states that it carries, and the masks of the dropout, are those of a run left alone."""
    model = model_of(**change)
    _, states = trained(model)
    for step in (15, 30):
        again = model_of(seed=9, **change)
        trained(again, state=copy.deepcopy(states[step]))
        for name, value in model.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name


def test_windows_follow_one_another_and_begin_again_at_the_end_of_the_text():
    task = TextTask(DATA, TRAINING)
    assert task.windows == (len(DATA.token_T) // 4) // 10
    read = torch.cat([task.batch(step, 0, 1, "cpu")[0].token_DTB[:, 1:] for step in range(task.windows)], dim=1)
    length = len(DATA.token_T) // 4
    for direction in (0, 1):
        text = one_stream(DATA.token_T, direction)[1:, 0]
        for stream in range(4):
            assert torch.equal(read[direction, :, stream], text[stream * length:][:task.windows * 10])
    task.after_step({"state": torch.ones(1)})
    assert task.batch(1, 0, 1, "cpu")[0].state_D2YBH is not None
    assert task.batch(task.windows, 0, 1, "cpu")[0].state_D2YBH is None


def test_the_state_is_carried_from_window_to_window():
    """Two windows read one after the other give what one long window gives."""
    model = model_of(direction="both").eval()
    model.set_targets(TARGETS)
    token_DTB = torch.stack([one_stream(DATA.token_T, direction)[:41] for direction in (0, 1)])
    first = model(TextBatch(token_DTB[:, :21], None))
    second = model(TextBatch(token_DTB[:, 20:], first["state"]))
    whole = model(TextBatch(token_DTB, None))
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"])
    torch.testing.assert_close(second["state"], whole["state"])


def test_perplexity_is_that_of_every_word_in_one_stream():
    model = model_of(direction="both").eval()
    model.set_targets(TARGETS)
    text = DATA.token_T[:700]  # more than is read at once
    loss = model(TextBatch(torch.stack([one_stream(text, direction) for direction in (0, 1)]), None))["loss"]
    assert model.perplexity(text) == pytest.approx(float(loss.detach().exp()), rel=1e-5)


@pytest.mark.parametrize(("spec", "data", "world_size", "message"), [
    (TRAINING, DATA, 2, "compute.num_workers is 2: a language model carries its state from step to step and trains in "
                        "one worker; set it to 1"),
    (replace(TRAINING, num_streams=200), DATA, 1, "a text of 1050 tokens for num_streams = 200 with a window of 10: no "
                                                  "stream is so long; lower one of them"),
])
def test_what_cannot_be_trained_is_refused(spec, data, world_size, message):
    with pytest.raises(ValueError) as refusal:
        train(model_of(), TextTask(data, spec), worker=Worker(world_size=world_size))
    assert str(refusal.value) == message


def test_under_bf16_it_learns_from_a_softmax_in_float32():
    """Forward and backward; the loss is near that of float32. Without oneDNN, whose LSTM wants a CPU that has bf16."""
    model = model_of(direction="both")
    model.set_targets(TARGETS)
    batch = TextBatch(torch.stack([one_stream(DATA.token_T, direction)[:41] for direction in (0, 1)]), None)
    with torch.backends.mkldnn.flags(enabled=False):
        with torch.autocast("cpu", torch.bfloat16):
            result = model(batch)
            again = model(TextBatch(batch.token_DTB, result["state"]))
        again["loss"].backward()
    assert again["loss"].dtype == torch.float32
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name
    torch.testing.assert_close(result["loss"], model(batch)["loss"], atol=0.01, rtol=0)


def test_a_token_above_num_words_is_refused_wherever_it_comes_in():
    """As a target, as a word that is read, and as the last one, which is predicted and not read."""
    model = model_of()
    message = ("token 40 with num_words = 40; num_words counts the vocabulary and the 4 tokens that are no words: set "
               "it to the dataset's")
    with pytest.raises(ValueError, match=message):
        model.set_targets(torch.tensor([*TARGETS[:-1], 40]))
    model.set_targets(TARGETS)
    for words in ([40, 7], [7, 40]):
        with pytest.raises(ValueError, match=message):
            model.perplexity(torch.tensor(words))
    sample_RL = torch.tensor([sample_of([5, 40], 5), sample_of([5, 40], 40)]).unsqueeze(0)
    with pytest.raises(ValueError, match=message):
        model.classify(sample_RL, torch.tensor([[0, 1]]), sample_RL, 2)


@pytest.mark.parametrize("cutoffs", [(), (8, 8), (20, 8), (0, 8)])
def test_cutoffs_ascend(cutoffs):
    with pytest.raises(ValueError, match=r"cutoffs is .*; it must be at least one number of words, ascending"):
        replace(SPEC, cutoffs=cutoffs)


def test_cutoffs_lie_below_the_number_of_targets():
    with pytest.raises(ValueError, match=r"cutoffs is \[8, 20\] for 20 words that are predicted; all must be below"):
        model_of(20)


# ---- words that are no targets ----

HELD_OUT = torch.tensor([7, 20, 33])
SEEN = TARGETS[~torch.isin(TARGETS, HELD_OUT)]


def test_a_word_that_is_no_target_has_no_row_and_its_positions_no_gradient():
    """Whatever stands there as target, the loss is that of the other positions."""
    model = model_of(len(SEEN)).eval()
    model.set_targets(SEEN)
    assert sum(row >= 0 for row in model.row_V.tolist()) == len(SEEN) == model.softmax.n_classes
    assert (model.row_V[HELD_OUT] == -1).all()
    output_BH = torch.randn(60, 16, requires_grad=True)
    token_B = torch.cat([SEEN[:30], HELD_OUT.repeat(10)])
    loss = model.mean_loss(output_BH, token_B)
    torch.testing.assert_close(loss, model.mean_loss(output_BH[:30], token_B[:30]))
    loss.backward()
    assert output_BH.grad is not None and (output_BH.grad[30:] == 0).all() and (output_BH.grad[:30] != 0).any()


def test_training_and_perplexity_do_not_depend_on_which_held_out_word_is_to_be_predicted():
    """A text that ends with a held-out word, never read itself: any other held-out word gives the same weights."""
    def weights_and_perplexity(last: int) -> tuple[dict[str, Tensor], float]:
        text = torch.cat([DATA.token_T[:40], torch.tensor([last])])
        model = model_of(len(SEEN))
        trained(model, replace(TRAINING, num_streams=1, window=41), replace(DATA, token_T=text, target_R=SEEN))
        return model.state_dict(), model.perplexity(text)

    one, other = weights_and_perplexity(7), weights_and_perplexity(33)
    assert one[1] == other[1]
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name


# ---- the oracle ----

def sample_of(words: list[int], own: int) -> list[int]:
    """As SentenceStore gives it with blank=False: a window on the first `own`, and `own` itself."""
    window = [PADDING] * (2 * CONTEXT + 1)
    start = CONTEXT - words.index(own) - 1
    window[start:start + len(words) + 2] = [BEGIN, *words, END]
    return [*window, own]


def samples() -> Tensor:
    """Sentences of 1 to 7 words; in some the word stands first, last, or twice."""
    generator = torch.Generator().manual_seed(3)
    sentences = [torch.randint(FIRST_WORD, NUM_WORDS, (1 + i % 7,), generator=generator).tolist() for i in range(30)]
    for words in sentences[::4]:
        words[-1] = words[0]
    return torch.tensor([sample_of(words, words[i % len(words)]) for i, words in enumerate(sentences)])


def slow_score(model: LanguageModel, sample: list[int], word: int) -> float:
    """log P of the whole sentence with `word` for its own word, one token after another."""
    text = [END, *(word if token == sample[-1] else token for token in sample[:-1] if token >= FIRST_WORD), END]
    score = 0.0
    for direction in range(len(model.reader.directions)):
        ordered = text if direction == 0 else text[::-1]
        for i in range(1, len(ordered)):
            output_TBH, _ = model.reader(torch.tensor(ordered[:i]).unsqueeze(1), direction, None)
            row = int(model.row_V[ordered[i]])
            score += float(model.softmax.log_prob(output_TBH[-1])[0, row])
    return score


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_the_oracle_gives_what_a_slow_and_obvious_one_gives(direction):
    model = model_of(direction=direction)
    trained(model)
    model.eval()
    sample_RL, N = samples(), 4
    generator = torch.Generator().manual_seed(5)
    support_ES = torch.stack([sample_RL[torch.randperm(30, generator=generator)[:N]] for _ in range(3)])
    way_ES = torch.stack([torch.randperm(N, generator=generator) for _ in range(3)])
    query_EQ = sample_RL.view(3, 10, -1)
    with torch.inference_mode():
        found_EQN = model.classify(model.embed(support_ES).float(), way_ES, model.embed(query_EQ).float(), N)
        for e in range(3):
            words = [int(support_ES[e, way_ES[e] == way, -1]) for way in range(N)]
            slow_QN = torch.tensor([[slow_score(model, query, word) for word in words]
                                    for query in query_EQ[e].tolist()])
            torch.testing.assert_close(found_EQN[e], slow_QN.log_softmax(-1), atol=1e-4, rtol=0)


def test_scores_do_not_depend_on_how_many_pairs_are_scored_together(monkeypatch):
    model = model_of(direction="both").eval()
    model.set_targets(TARGETS)
    sentence_UL, pair_P = samples(), torch.arange(30 * 8)
    pairs = (sentence_UL, pair_P // 8, FIRST_WORD + pair_P % 8)
    together = model.score(*pairs)
    monkeypatch.setattr(language_model, "PAIRS_AT_ONCE", 50)
    torch.testing.assert_close(model.score(*pairs), together)


def test_the_oracle_knows_every_candidate():
    model = model_of(len(SEEN)).eval()
    model.set_targets(SEEN)
    sample_RL = torch.tensor([sample_of([5, 7], 5), sample_of([5, 7], 7)]).unsqueeze(0)
    with pytest.raises(ValueError, match="token 7 is a candidate, and this language model does not predict it"):
        model.classify(sample_RL, torch.tensor([[0, 1]]), sample_RL, 2)


def test_states_before_the_blank_are_those_of_the_words_before_it():
    """PADDING leaves no trace, whatever the number of words."""
    model = model_of(direction="both").eval()
    left_BL = samples()[:, :CONTEXT]
    for direction in (0, 1):
        for tokens, output_H in zip(left_BL, model.reader.last_outputs(left_BL, direction), strict=True):
            alone, _ = model.reader(tokens[tokens != PADDING].unsqueeze(1), direction, None)
            torch.testing.assert_close(output_H, alone[-1, 0])
