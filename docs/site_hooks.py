"""The site has the repository's layout, so that a link means there what it means on GitHub.

mkdocs knows the files below docs/, by their paths in there; but pages also link to SECURITY.md, jobs/reviews.toml and
others above it. So every file gets its path in the repository, and what a page links to becomes a page as well:
Markdown as it is, any other text as a block of code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROW = re.compile(r"^\|.*", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)#:\s]+)")


class Listing(File):
    """A page that is no Markdown file in the repository."""

    def is_documentation_page(self) -> bool:
        """mkdocs goes by the name."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name every file by its path in the repository, and add those that pages link to."""
    root = Path(config.config_file_path).parent
    docs = Path(config.docs_dir)
    found = Files([_renamed(file, root, docs, config) if file.src_dir == str(docs) else file for file in files])
    waiting = [*found.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in _LINK.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), link))
            if (root / path).is_file() and found.get_file_from_path(path) is None:
                found.append(_added(root, path, config))
                waiting.append(found.src_uris[path])
    return found


def on_page_markdown(markdown: str, **_: object) -> str:
    """A bar within code in a table: GitHub wants it escaped, Python-Markdown would show the escape."""
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown)


def _renamed(file: File, root: Path, docs: Path, config: MkDocsConfig) -> File:
    """A file of docs/, at the place in the site that it had."""
    path = (docs / file.src_uri).relative_to(root).as_posix()
    make = {"dest_uri": file.dest_uri, "inclusion": file.inclusion}
    return File(path, str(root), config.site_dir, config.use_directory_urls, **make)


def _added(root: Path, path: str, config: MkDocsConfig) -> File:
    """A file above docs/."""
    if path.endswith(".md"):
        dest = "README.html" if path == "README.md" else None  # index.html is the site's own
        return File(path, str(root), config.site_dir, config.use_directory_urls, dest_uri=dest)
    listing = Listing(path, None, config.site_dir, config.use_directory_urls, dest_uri=f"{path}.html")
    listing.generated_by = "site_hooks"
    text = (root / path).read_text(encoding="utf-8")
    listing.content_string = f"# {path}\n\n````{Path(path).suffix[1:]}\n{text}\n````\n"
    return listing
