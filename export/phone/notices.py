"""The licences that travel with the page."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path

from export.phone.onnxruntime_web import VERSION
from pipeline.base.errors import DataError

_THIRD_PARTY = "ThirdPartyNotices.txt"


def notices(bundle: Path) -> dict[str, bytes]:
    """Return the texts by their names in the page.

    Args:
        bundle: an unpacked bundle, whose `runtime/` has the text of our licence.

    Raises:
        DataError: the installed onnxruntime lacks its notices of third parties.
    """
    template = string.Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
    return {
        "NOTICES.md": template.substitute(version=VERSION).encode(),
        "LICENSE.txt": (bundle / "runtime" / "LICENSE").read_bytes(),
        _THIRD_PARTY: _third_party().read_bytes(),
    }


def _third_party() -> Path:
    # The package on npm lacks the notices; the one for Python has them, and is built from the same sources.
    found = importlib.util.find_spec("onnxruntime")
    path = Path(found.origin).with_name(_THIRD_PARTY) if found is not None and found.origin else Path(_THIRD_PARTY)
    if not path.is_file():
        raise DataError(f"{path}: missing; expected the notices that onnxruntime installs; install onnxruntime again")
    return path
