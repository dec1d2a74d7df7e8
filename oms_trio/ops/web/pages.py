"""The status page: one HTML file, and headers that forbid the browser to load anything else."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from importlib.resources import files
from typing import Final

PAGE: Final = files("oms_trio.ops.web").joinpath("page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the hashes of the page's inline code: the browser runs no other code."""
    return " ".join(
        f"'sha256-{base64.b64encode(sha256(code.encode()).digest()).decode()}'"
        for code in re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    )


HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
