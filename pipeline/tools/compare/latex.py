"""The tables and figures of a comparison as LaTeX, to be read into a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_PREAMBLE = r"% In the preamble: \usepackage{booktabs,graphicx}; for Chinese also \usepackage{ctex}, with XeLaTeX."
_NO_WIDER_THAN_THE_TEXT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}"
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "²": r"\textsuperscript{2}",
}  # fmt: skip


def table_latex(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table: the first column to the left, the others to the right.

    Args:
        caption: plain text.
        header: the names of the columns.
        rows: the fields of each row, as people read them; as many as there are columns.
    """
    lines = [
        _PREAMBLE,
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  {_NO_WIDER_THAN_THE_TEXT}{{%",
        rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"    \toprule",
        _row(header),
        r"    \midrule",
        *(_row(row) for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def figures_latex(captions: Sequence[tuple[str, str]]) -> str:
    """Write the figures, none wider than the text, from pairs of file name and caption."""
    return "\n".join([_PREAMBLE, *(line for name, caption in captions for line in _figure(name, caption))]) + "\n"


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it letter by letter."""
    return "".join(_ESCAPES.get(letter, letter) for letter in " ".join(text.split()))


def _row(fields: Sequence[str]) -> str:
    # Braces keep a field that begins with [ from being read as the space after a line.
    return "    " + " & ".join(f"{{{escape_latex(field)}}}" for field in fields) + r" \\"


def _figure(name: str, caption: str) -> Iterator[str]:
    yield r"\begin{figure}"
    yield r"  \centering"
    yield rf"  {_NO_WIDER_THAN_THE_TEXT}{{\includegraphics{{{name}}}}}"
    yield rf"  \caption{{{escape_latex(caption)}}}"
    yield r"\end{figure}"
