"""Builds the documentation as a site: gathers the pages, turns their links, and runs Sphinx.

The pages are written to be read in the repository, where links lead to files. A site has the files
of docs/, some files of the repository's root, and a page for each module that others may build on.
A link to one of these becomes a link to its page; a link to another file leads to the forge, if
REPOSITORY_URL names one, and is plain text otherwise; a link to nothing is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

AT_THE_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files at the root of the repository, and the pages that they become."""

SECTIONS = {
    "Concepts": ["architecture", "glossary", "rewards", "durability", "trust", "lessons"],
    "Operating": ["operations", "runbook", "events", "replay"],
    "Testing": ["simulation", "simulator", "performance"],
    "Project": ["changelog", "contributing", "security"],
}
"""The order of the pages. A page that stands in no section comes under "More"."""

DESCRIBED = {
    "core": ["core/*.py"],
    "agent": ["agent/*.py"],
    "testing": ["testing/okx_server/*.py", "testing/okx_server/faults/*.py"],
}
"""Modules of oms_trio that others may build on: each public one has a page."""

LINK = re.compile(r"(!?)\[([^\]\[]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)$)", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Build into the folder that is named, or into build/site."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/site"
    source = site.with_name(f"{site.name}-source")
    for folder in (site, source):
        shutil.rmtree(folder, ignore_errors=True)
    gather(source, os.environ.get("REPOSITORY_URL", ""))
    sphinx = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*sphinx, source, site], env=environ, check=False)  # noqa: S603
    sys.exit(done.returncode)


def gather(source: Path, forge: str) -> None:
    """Lay the pages as Sphinx is to find them."""
    shutil.copytree(ROOT / "docs", source)
    pages = {ROOT / "docs" / page.name: page for page in source.glob("*.md")}
    pages |= {
        ROOT / name: source / page for name, page in AT_THE_ROOT.items() if (ROOT / name).exists()
    }
    for written, page in pages.items():
        page.write_text(turn_links(written, source, forge))
    contents = dict(sections({page.stem for page in pages.values()} - {"index"}))
    contents["Reference"] = list(describe(source))
    with (source / "index.md").open("a") as index:
        for title, names in contents.items():
            index.write(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n")
            index.write("\n".join(names) + "\n```\n")


def turn_links(written: Path, source: Path, forge: str) -> str:
    """Return a page's text with the links of the site."""

    def turned(link: re.Match[str]) -> str:
        image, text, path, anchor = link.groups(default="")
        target = Path(os.path.normpath(written.parent / path))
        if not target.is_relative_to(ROOT) or not target.exists():
            return link[0]  # Sphinx complains of it
        name = target.relative_to(ROOT).as_posix()
        inside = AT_THE_ROOT.get(name, name.removeprefix("docs/"))
        if name in AT_THE_ROOT or (source / inside).is_file():
            return f"{image}[{text}]({inside}{anchor})"
        return f"[{text}]({forge.rstrip('/')}/blob/HEAD/{name}{anchor})" if forge else text

    parts = FENCE.split(written.read_text())
    return "".join(part if FENCE.match(part) else LINK.sub(turned, part) for part in parts)


def sections(names: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Order the pages that there are."""
    placed = {name for section in SECTIONS.values() for name in section}
    for title, section in {**SECTIONS, "More": sorted(names - placed)}.items():
        if there := [name for name in section if name in names]:
            yield title, there


def describe(source: Path) -> Iterator[str]:
    """Write a page for each module that is described; gives the pages that head a package."""
    folder = source / "reference"
    folder.mkdir()
    for package, patterns in DESCRIBED.items():
        files = sorted({file for each in patterns for file in (ROOT / "oms_trio").glob(each)})
        modules = [
            ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for file in files
            if not file.name.startswith("_")
        ]
        for module in modules:
            title = module.removeprefix("oms_trio.")
            reference = f"```{{eval-rst}}\n.. automodule:: {module}\n```\n"
            (folder / f"{module}.md").write_text(f"# {title}\n\n{reference}")
        if modules:
            contents = "\n".join(modules)
            head = f"# oms_trio.{package}\n\n```{{toctree}}\n{contents}\n```\n"
            (folder / f"{package}.md").write_text(head)
            yield f"reference/{package}"


if __name__ == "__main__":
    main()
