"""One page that shows each query, its classes and the support pictures it attended to. It loads nothing."""

import base64
import inspect
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from matchnet.files import atomic_write
from matchnet.pictures.answers import UNKNOWN, Answer
from matchnet.pictures.folders import PassedOver, Support
from matchnet.pictures.ground import as_the_model_sees
from matchnet.pictures.inputs import to_picture
from matchnet.pictures.one_shot import OneShotClassifier

CSS = Path(__file__).with_name("page.css")
THUMBNAIL = 160  # pixels of the longer side: shown at half of that, for sharp screens
DEFAULTS = inspect.signature(OneShotClassifier).parameters
FAINT = 0.005  # a support picture with a smaller weight is drawn faintly


def write_page(path: Path, classifier: OneShotClassifier, support: Support, found: Sequence[Answer],
               passed_over: Sequence[PassedOver], unknown: float | None) -> None:
    """Write the page whole or not at all; OSError as writing raises it."""
    shown = sorted({s for answer in found for s, _ in answer.nearest})
    pictures = "\n".join(f".s{s} {{ background-image: url({_thumbnail(support.paths[s])}) }}" for s in shown)
    cards = "\n".join(_card(answer, classifier, support) for answer in found)
    with atomic_write(path) as file:
        file.write(f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{len(found):,} pictures, {len(classifier.classes_):,} classes</title>
<style>
{CSS.read_text(encoding="utf-8")}{pictures}
</style>
</head>
<body>
<main>
<h1>{_count(len(found), "picture")} among {_count(len(classifier.classes_), "class", "classes")}</h1>
{_about(classifier, support, found, unknown)}
<section class="cards">
{cards}
</section>
{_left_out(passed_over)}</main>
</body>
</html>
""")


def _about(classifier: OneShotClassifier, support: Support, found: Sequence[Answer], unknown: float | None) -> str:
    lines = [f"Model <b>{escape(classifier.encoder_.name)}</b>, {_count(len(support.paths), 'support picture')}. Below "
             "each query are the support pictures that it attended to, with their weights. The probability of a class "
             "is the sum of the weights of all its pictures."]
    if given := [f"{name} {value}" for name in ("ink", "margin", "upright", "clean")
                 if (value := getattr(classifier, name)) != DEFAULTS[name].default]:
        lines.append(f"Prepared with {', '.join(given)}.")
    if unknown is not None:
        number = sum(answer.name == UNKNOWN for answer in found)
        lines.append(f"{number:,} of {len(found):,} are <b>{UNKNOWN}</b>: their largest probability is below "
                     f"{unknown:g}.")
    return "\n".join(f'<p class="quiet">{line}</p>' for line in lines)


def _card(answer: Answer, classifier: OneShotClassifier, support: Support) -> str:
    picture = to_picture(answer.path, 0)
    bars = "".join(f'<span title="{escape(name)}">{escape(name)}</span><div class="bar"><i style="width:'
                   f'{100 * share:.1f}%"></i></div><b>{_percent(share)}</b>' for name, share in answer.classes)
    attended = "".join(
        f'<figure{_faint(weight)} title="{escape(str(support.paths[s]))}"><span class="picture s{s}" role="img" '
        f'aria-label="{escape(support.paths[s].name)}"></span><figcaption><b>{_percent(weight)}</b> '
        f"{escape(support.labels[s])}</figcaption></figure>" for s, weight in answer.nearest)
    unknown = ' class="unknown"' if answer.name == UNKNOWN else ""
    return f"""<article{unknown}>
<div class="top">
<figure class="query"><img class="picture" src="{_data(_small(picture))}" alt="{escape(answer.path.name)}" \
style="object-fit:contain">{_seen(picture, classifier)}</figure>
<div class="said"><div class="name">{escape(answer.name)}</div>
<div class="file">{escape(str(answer.path))}</div>
<div class="classes">{bars}</div></div>
</div>
<div class="support">{attended}</div>
</article>"""


def _seen(picture: Image.Image, classifier: OneShotClassifier) -> str:
    """The picture as the model sees it, so that a wrong polarity or lost colours are visible."""
    preparation = classifier.encoder_.preparation
    if preparation is None:
        return ""
    pixels_CHW, _ = as_the_model_sees(picture, preparation, classifier.ink, classifier.clean)
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW[0] if len(pixels_CHW) == 1 else
                                                 pixels_CHW.transpose(1, 2, 0)))
    seen = "as the model sees it"
    return f'<img class="picture seen" src="{_data(image)}" alt="{seen}"><figcaption>{seen}</figcaption>'


def _thumbnail(path: Path) -> str:
    return _data(_small(to_picture(path, 0)))


def _small(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def _data(image: Image.Image) -> str:
    """A data URI of the picture: PNG if that is small, as for drawings, else JPEG."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    image.save(jpeg, "JPEG", quality=85)
    kind, file = ("png", png) if len(png.getvalue()) <= 2 * len(jpeg.getvalue()) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _left_out(passed_over: Sequence[PassedOver]) -> str:
    if not passed_over:
        return ""
    rows = "".join(f"<tr><td>{escape(str(one.path))}</td><td>{escape(one.reason)}</td></tr>" for one in passed_over)
    return f"<h2>Passed over</h2>\n<table>{rows}</table>\n"


def _faint(weight: float) -> str:
    return ' class="faint"' if weight < FAINT else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.1 <= share < 0.995 else f"{100 * share:.1f} %"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
