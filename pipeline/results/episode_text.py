"""Test episodes of sentences: supports, queries and the model's answers, as a fragment of HTML.

Only tags that Markdown lets through, so that both reports show the fragment as it is.
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from torch import Tensor

from matchnet.files import atomic_write
from matchnet.messages import shown
from matchnet.tokens import BEGIN, BLANK, END, FIRST_WORD, PADDING
from pipeline.results.shown_episode import ShownEpisode, choose, way_name

GAP = "<kbd>&nbsp;?&nbsp;</kbd>"  # the blank
OUR_TAGS = re.compile(r'</?(p|b|i|tr|td|kbd|br|table)>|<table class="episode">')
OUR_LINE = re.compile(r'<p><b>[^<]*</b></p>|<table class="episode">|<tr><td>.*</td></tr>|</table>')
CUT = "…"  # the sentence goes on where the sample ends


def write_episodes(path: Path, episodes: Sequence[ShownEpisode], words: Sequence[str],
                   num_first: int = 4) -> None:
    """Write the first episodes, and some with errors, of a model of sentences.

    Args:
        words: token - FIRST_WORD -> word.
    """
    lines = []
    for choice in choose(episodes, num_first):
        lines.append(f"<p><b>{escape(choice.heading)}</b></p>")
        lines += [_episode(episode, queries, words) for episode, queries in choice.episodes]
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")


def read_episodes(path: Path) -> str:
    """Read what `write_episodes` wrote; ValueError for other tags, a tag with attributes, or text outside of them."""
    again = f"make it again with the stage evaluate@{path.parent.name}"
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start + 1} is not UTF-8; {again}") from error
    strange = re.search("<[^>]*", OUR_TAGS.sub("", text))
    if strange:
        raise ValueError(f"{path}: {shown(strange[0])} is no tag of test episodes; {again}")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if not OUR_LINE.fullmatch(line):
            raise ValueError(f"{path}: line {number} is {shown(line)}, no heading and no part of a table; {again}")
    return text


def sentence(sample_L: Tensor, words: Sequence[str]) -> str:
    """A sample as HTML, each blank a gap; a last entry beyond the window is the word itself, which is blanked."""
    tokens = sample_L.tolist()
    if len(tokens) % 2 == 0:
        tokens = [BLANK if token == tokens[-1] else token for token in tokens[:-1]]
    seen = [GAP if token == BLANK else escape(words[token - FIRST_WORD]) for token in tokens
            if token not in (PADDING, BEGIN, END)]
    return " ".join([CUT] * (BEGIN not in tokens) + seen + [CUT] * (END not in tokens))


def _episode(episode: ShownEpisode, queries: Sequence[int], words: Sequence[str]) -> str:
    order = episode.support_way_S.argsort(stable=True).tolist()
    support = [_row(_way(episode, int(episode.support_way_S[item])), sentence(episode.support_S[item], words))
               for item in order]
    answers = [_row(_answer(episode, query), sentence(episode.query_Q[query], words)) for query in queries]
    right = f"{int((~episode.wrong_Q).sum())} of {len(episode.wrong_Q)} right"
    return "\n".join(['<table class="episode">', _row("<i>support</i>", ""), *support,
                      _row("<i>queries</i>", f"<i>{right}</i>"), *answers, "</table>"])


def _answer(episode: ShownEpisode, query: int) -> str:
    """The predicted way, its word and probability; where it is wrong, the true ones too."""
    log_probs_N, true_way = episode.log_probs_QN[query], int(episode.query_way_Q[query])
    predicted = int(log_probs_N.argmax())
    said = f"{_way(episode, predicted)} {float(log_probs_N[predicted].exp()):.0%}"
    if predicted == true_way:
        return f"✓ {said}"
    return f"✗ {said}<br>is {_way(episode, true_way)} {float(log_probs_N[true_way].exp()):.0%}"


def _way(episode: ShownEpisode, way: int) -> str:
    return f"<b>{way_name(way)}</b> {escape(episode.way_names[way])}"


def _row(left: str, right: str) -> str:
    return f"<tr><td>{left}</td><td>{right}</td></tr>"
