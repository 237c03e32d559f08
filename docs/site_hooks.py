"""Hooks of mkdocs: README, CONTRIBUTING and CHANGELOG become pages, and links mean in the site what they mean in git.

A linked file outside docs/ is copied into the site under its own path. Code is copied as text: browsers then show it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for file in files.documentation_pages():
        for link in LINK.findall(file.content_string):
            path, address = _meant(file, link)
            if path.is_file() and files.get_file_from_path(address) is None:
                files.append(File.generated(config, address, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = posixpath.dirname(page.file.src_uri) or "."
    return LINK.sub(lambda link: posixpath.relpath(_meant(page.file, link[1])[1], folder), markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from the network."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: the page loads from the network: {found[0]}")
    return output


def _meant(file: File, link: str) -> tuple[Path, str]:
    """The path of a link in the repository, and its address in the site."""
    written_at = next((name for name, page in PAGES.items() if page == file.src_uri), f"docs/{file.src_uri}")
    path = (ROOT / written_at).parent.joinpath(link).resolve()
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return path, PAGES[name]
    if name.startswith("docs/"):
        return path, name.removeprefix("docs/")
    return path, name if path.suffix in (".svg", ".png") else f"{name}.txt"
