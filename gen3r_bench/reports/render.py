"""Tables as markdown, LaTeX (booktabs) and CSV.

Every name, note and reason is escaped: a method called ``a_b|<c>`` cannot break a table or a page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Final

import jinja2
from tabulate import tabulate

from gen3r_bench.reports.recipe import RECIPE_MARK
from gen3r_bench.reports.tables import Cell, Mark, Row, Table

if TYPE_CHECKING:
    import pandas as pd

CSV_COLUMNS: Final = (
    "table",
    "source",
    "setting",
    "row",
    "method",
    "kind",
    "dataset",
    "metric",
    "value",
    "mark",
    "n",
    "N",
    "reasons",
    "frames",
    "height",
    "width",
    "protocol",
    "card_hash",
    "run",
    "low",
    "high",
    "level",
)


def printable(text: str) -> str:
    """``text`` on one line; control characters, which a terminal would obey, and lone surrogates as code points."""
    shown = (
        f"U+{ord(character):04X}"
        if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()
        else character
        for character in text
    )
    return " ".join("".join(shown).split())


def footnote_letter(number: int) -> str:
    """Letters for a footnote's number: a, b, …, z, aa, ab, … for 0, 1, …."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


# --- markdown ---------------------------------------------------------------------------------------------------------

_MARKDOWN_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_MARKDOWN_SPECIAL: Final = re.compile(r"[\\`*_\[\]~$]|^[-+=#]|(?P<ordinal>^\d{1,9})(?=[.)])")
_MARKDOWN_MARKS: Final[dict[Mark, tuple[str, str]]] = {
    "best": ("**", "**"),
    "second": ("<u>", "</u>"),
    "third": ("*", "*"),
}


def escape_markdown(text: str) -> str:
    r"""Text that GitHub's markdown shows as it stands, in a table's cell or in a line; white space becomes one space.

    >>> print(escape_markdown("a_b|<c>"))
    a\_b&#124;&lt;c&gt;
    """
    line = printable(text)
    line = _MARKDOWN_SPECIAL.sub(lambda found: f"{found[0]}\\" if found["ordinal"] else f"\\{found[0]}", line)
    return "".join(_MARKDOWN_ENTITIES.get(character, character) for character in line)


def render_markdown(table: Table) -> str:
    """A table in GitHub's markdown: marks in bold, underlined and italic, notes as a list below."""
    grouped = len(table.row_groups) > 1
    heads = [escape_markdown(table.row_group_head)] * grouped + ["method"]
    for group in table.column_groups:
        for column in group.columns:
            unit = f" ({escape_markdown(column.unit)})" if column.unit else ""
            heads.append(f"{escape_markdown(group.full_title)}<br>{escape_markdown(column.title)} {column.arrow}{unit}")
    lines = []
    for row_group in table.row_groups:
        for number, row in enumerate(row_group.rows):
            label = escape_markdown(row.label)
            title = [escape_markdown(row_group.title) if number == 0 else ""] * grouped
            lines.append([*title, label if row.ranked else f"*{label}*", *map(_markdown_cell, row.cells)])
    align = ["left"] * (grouped + 1) + ["right"] * len(table.columns)
    body = tabulate(lines, heads, tablefmt="pipe", colalign=align, disable_numparse=True)
    below = [f"<sup>{footnote_letter(n)}</sup> {escape_markdown(text)}" for n, text in enumerate(table.footnotes)]
    if table.has_marks:
        below.append(
            f"**Best**, <u>second</u> and *third* of each column and group of rows; {escape_markdown(table.mark_rule)}."
        )
    if table.has_unranked_rows:
        below.append("Rows in *italics*: floors and diagnostics, never ranked.")
    below += [escape_markdown(text) for text in (*table.notes, *table.environments)]
    recipe = [f"<!-- {RECIPE_MARK} {table.recipe} -->"] if table.recipe else []
    heading = f"**{escape_markdown(table.title)}**"
    return "\n\n".join([*recipe, heading, body, "\n".join(f"- {line}" for line in below)]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    before, after = _MARKDOWN_MARKS[cell.mark] if cell.mark else ("", "")
    notes = ",".join(footnote_letter(note) for note in cell.notes)
    spread = f" {escape_markdown(cell.spread)}" if cell.spread else ""
    return f"{before}{cell.text}{after}{spread}" + (f"<sup>{notes}</sup>" if notes else "")


# --- LaTeX ------------------------------------------------------------------------------------------------------------

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    # After a line's \\ these would be read as its arguments.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "µ": r"$\mu$",
    "σ": r"$\sigma$",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}
_LATEX_ACCENTS: Final = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030c": r"\v",
    "\u0327": r"\c",
}


def escape_latex(text: str) -> str:
    r"""Text that any LaTeX engine sets as it stands; the result is ASCII.

    Accented Latin letters become accent commands, and a character that plain LaTeX fonts lack is shown as its code
    point, since one of them in a reason would stop a whole paper from compiling.

    >>> print(escape_latex("100% of a_b × é"))
    100\% of a\_b $\times$ \'{e}
    """
    escaped = []
    line = printable(text)
    for index, character in enumerate(line):
        following = line[index + 1 : index + 2]
        if character in _LATEX:
            escaped.append(_LATEX[character])
        elif character.isascii():
            # Two of these in a row are one dash, quotation mark or other ligature.
            escaped.append(
                character + "{}" if character in "-'`,?!" and following in ("-", "'", "`", ",") else character
            )
        else:
            parts = unicodedata.normalize("NFD", character)
            known = len(parts) == 2 and parts[0].isascii() and parts[1] in _LATEX_ACCENTS
            escaped.append(f"{_LATEX_ACCENTS[parts[1]]}{{{parts[0]}}}" if known else f"U+{ord(character):04X}")
    return "".join(escaped)


@cache
def _latex_template() -> jinja2.Template:
    environment = jinja2.Environment(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the `tex` filter escapes, for LaTeX; HTML's escapes would be wrong
    )
    environment.filters |= {"tex": escape_latex, "letter": footnote_letter, "label": _latex_label, "cell": _latex_cell}
    return environment.from_string(files("gen3r_bench.reports").joinpath("table.tex.jinja").read_text("utf-8"))


def render_latex(table: Table) -> str:
    r"""A table as a ``table`` environment to ``\input``; its first line names the packages that it needs."""
    grouped = len(table.row_groups) > 1
    first = 2 + grouped
    above = [
        (title, sum(len(group.columns) for group in groups))
        for title, groups in groupby(table.column_groups, key=lambda group: group.above)
    ]
    return _latex_template().render(
        table=table,
        label=re.sub(r"[^A-Za-z0-9-]+", "-", table.name),
        recipe_mark=RECIPE_MARK,
        grouped=grouped,
        has_above=any(title for title, _ in above),
        above=list(zip(above, _spans([width for _, width in above], first), strict=True)),
        spans=_spans([len(group.columns) for group in table.column_groups], first),
    )


def _spans(widths: Sequence[int], first: int) -> list[tuple[int, int]]:
    """First and last column of neighbouring heads of the given widths."""
    ends = list(accumulate(widths, initial=first))
    return [(start, end - 1) for start, end in pairwise(ends)]


def _latex_label(row: Row) -> str:
    return escape_latex(row.label) if row.ranked else f"\\benchgrey{{{escape_latex(row.label)}}}"


def _latex_cell(cell: Cell, row: Row) -> str:
    text = escape_latex(cell.text)
    if cell.mark:
        text = f"\\bench{cell.mark}{{{text}}}"
    if cell.spread:
        text += f"\\,{{\\scriptsize {escape_latex(cell.spread)}}}"
    if not row.ranked:
        text = f"\\benchgrey{{{text}}}"
    notes = ",".join(footnote_letter(note) for note in cell.notes)
    return text + (f"\\textsuperscript{{{notes}}}" if notes else "")


# --- CSV --------------------------------------------------------------------------------------------------------------

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


def csv_cell(value: object) -> str:
    """A value for a CSV; a name that a spreadsheet would run as a formula gets an apostrophe before it.

    >>> csv_cell("-0.50"), csv_cell(None), csv_cell("=1+1")
    ('-0.50', '', "'=1+1")
    """
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def csv_name(cell: str) -> str:
    """The name that ``csv_cell`` wrote."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def table_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """Every value of the tables, one line each, as text; a cell without a score has an empty value and its reasons."""
    import pandas as pd

    lines = []
    for table in tables:
        for row in table.rows:
            for cell in row.cells:
                source = cell.source
                if source is None:
                    continue
                height, width = source.image_size or (None, None)
                reasons = "; ".join(f"{count} × {reason}" for reason, count in (source.reasons or {}).items())
                line = {
                    "table": table.name,
                    "source": source.kind,
                    "setting": source.setting,
                    "row": row.label,
                    "method": row.method,
                    "kind": row.kind,
                    "dataset": source.dataset,
                    "metric": source.metric,
                    "value": source.value,
                    "mark": cell.mark,
                    "n": source.n,
                    "N": source.planned,
                    "reasons": reasons,
                    "frames": source.frames,
                    "height": height,
                    "width": width,
                    "protocol": source.protocol,
                    "card_hash": source.card_hash,
                    "run": source.run,
                    "low": source.interval and repr(source.interval.low),
                    "high": source.interval and repr(source.interval.high),
                    "level": source.interval and source.interval.level,
                }
                lines.append([csv_cell(line[name]) for name in CSV_COLUMNS])
    return pd.DataFrame(lines, columns=list(CSV_COLUMNS), dtype=object)


def render_csv(tables: Sequence[Table]) -> str:
    """Tables as one CSV in long format, with every digit of measured means and the paper's values as printed."""
    return str(table_frame(tables).to_csv(index=False, lineterminator="\n"))
