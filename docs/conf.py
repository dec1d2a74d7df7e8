"""How Sphinx makes a site of the documentation. `scripts/docs` gathers the pages and runs it."""

from sphinx.application import Sphinx

from oms_trio.version import __version__

project = "oms_trio"
version = release = __version__
copyright = "the authors of oms_trio"  # noqa: A001 - Sphinx's name
html_title = f"oms_trio {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
suppress_warnings = ["ref.python"]  # a field named like another: types are not written as links

highlight_language = "none"  # a block that does not name its language is text

html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


def keep_tables_of_rules(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Show the rules at the head of a module as they are written there: indented, in columns."""
    if what != "module":
        return
    indented = [line.startswith("    ") for line in lines]
    for number in range(len(lines) - 1, 1, -1):
        starts = indented[number] and not lines[number - 1] and not indented[number - 2]
        if starts:
            lines[number:number] = ["::", ""]


def setup(app: Sphinx) -> None:
    """Take part in the reading of docstrings."""
    app.connect("autodoc-process-docstring", keep_tables_of_rules)
