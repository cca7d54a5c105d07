"""Put the whole page into one HTML file, which a browser opens from the file system."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re

from export.phone.page_files import INDEX

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) )", re.MULTILINE)
_MAIN, _STYLE = "app.js", "style.css"
_NOT_INSIDE = (INDEX, _STYLE, "sw.js", "manifest.webmanifest", "icon.svg")
_HEAD_LINES = re.compile(r"^<(?:link|meta http-equiv|script)[^\n]*\n", re.MULTILINE)


def single_file(files: dict[str, bytes]) -> bytes:
    """Return the page as one HTML file: its modules joined, its other files as gzip in base64.

    Args:
        files: the files of the folder form.
    """
    script = join_modules(files, _MAIN)
    style = files[_STYLE].decode()
    modules = {name for name in files if name.endswith(".js") and name != "worker.js"}
    inside = {name: content for name, content in files.items() if name not in {*modules, *_NOT_INSIDE}}
    # No inline script runs but the one of this hash. Blobs are the modules of the worker, made from the file itself.
    policy = (
        f"default-src 'none'; script-src {_hash(script)} blob: 'wasm-unsafe-eval'; worker-src blob:; "
        f"style-src {_hash(style)}; img-src blob:; media-src blob: mediastream:; connect-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n'
        f'<script type="module">{script}</script>\n'
    )
    blocks = "".join(
        f'<script type="text/plain" id="file:{name}">{_packed(content)}</script>\n' for name, content in inside.items()
    )
    index = _HEAD_LINES.sub("", files[INDEX].decode())
    # The policy stands before everything that it is for, and the files before the end of the body.
    index = index.replace('<meta charset="utf-8">\n', f'<meta charset="utf-8">\n{head}', 1)
    return index.replace("</body>", f"{blocks}</body>", 1).encode()


def join_modules(files: dict[str, bytes], main: str) -> str:
    """Return a module and all that it imports as one script, each module before those that import it.

    Names of the top level are unique in `page/`: a repeated one is a syntax error of the joined script.

    Raises:
        ValueError: a module imports itself, directly or through others.
    """
    ordered: list[str] = []

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"{name}: imports itself through {', '.join(importers)}")
        if name not in ordered:
            for _, imported in _IMPORT.findall(files[name].decode()):
                add(imported, (*importers, name))
            ordered.append(name)

    add(main, ())
    return "".join(_EXPORT.sub("", _IMPORT.sub("", files[name].decode())) for name in ordered)


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
