"""Text for a terminal: a name cannot move the cursor, colour a line, or end it and begin another."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), ends of lines and paragraphs, and marks that turn the direction of writing.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(line: str) -> str:
    r"""Return one line with its control characters as escapes such as \u001b. JSON reads these back as they were."""
    return _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", line)
