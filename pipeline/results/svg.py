"""Matplotlib's figures as SVG inside a page: text stays text, and colours are the page's.

The same figure has the same bytes. Importing matplotlib takes seconds, so only the report's page does it. Figures
are made without pyplot, so no window system is asked for.
"""

import io
import re
import warnings
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

# Stand for the page's colours, which change with light and dark; the page's style sheet declares the variables.
INK, MUTED, FAINT, OURS, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--rule)", OURS: "var(--ours)",
             PAPER: "var(--paper)"}
WIDTH = 5.3  # inches of 72 units; text of 10 units is readable at 360 pixels
STYLE = {"font.size": 10, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": FAINT,
         "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "grid.color": FAINT,
         "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "xtick.major.size": 0,
         "ytick.major.size": 0, "ytick.minor.size": 0, "svg.fonttype": "none", "svg.hashsalt": "matchnet",
         "axes.formatter.use_mathtext": False}


def figure_svg(figure: Figure, name: str, words: str) -> str:
    """An element <svg>, to stand in HTML.

    Args:
        name: begins the ids in it, which must differ in one page: a letter, then letters and digits.
        words: the text for readers who do not see the figure.
    """
    buffer = io.StringIO()
    with rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts have the glyph
        figure.savefig(buffer, format="svg", transparent=True,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index("<svg"):], count=1, flags=re.DOTALL)
    text = re.sub(r"font(?:-family)?: [^;\"]*?(\d[\d.]*px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub("|".join(VARIABLES), lambda found: VARIABLES[found[0]], text)
    opening, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box, "matplotlib writes a viewBox"
    return (f'<svg class="plot" role="img" aria-label="{escape(words)}" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'xmlns="http://www.w3.org/2000/svg" {box[0]}>{rest.rstrip()}')
