from __future__ import annotations

import csv
import doctest
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reports.synthetic import ENOUGH, FREEZE, GEN3R, ORACLE, WVD, flat, row

from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.reports import paper, render
from gen3r_bench.reports import tables as tables_module
from gen3r_bench.reports.claims import claim_table
from gen3r_bench.reports.claims_render import claims_latex
from gen3r_bench.reports.compose import comparison_table, run_table
from gen3r_bench.reports.paper import TABLE_NUMBERS, paper_table
from gen3r_bench.reports.render import (
    CSV_COLUMNS,
    escape_latex,
    escape_markdown,
    footnote_letter,
    render_csv,
    render_latex,
    render_markdown,
)
from gen3r_bench.reports.tables import Cell, Column, ColumnGroup, Row, RowGroup, Table

NASTY = "a_b & 100% #1 {x} $y$ ~^ \\ <script>alert('x')</script> | `c` **d** [e](f) \"g\" -- é × 漢 \x07"
TEXTS = st.text(max_size=30) | st.text("\\`*_{}[]()<>#+-.!|~$&%^'\",0123456789. abé×漢\n\t", max_size=30)
MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")
LATEX_DECODED = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    **{f"\\{c}": c for c in "{}$&#%_"},
    **{f"{{{c}}}": c for c in "[]*"},
    **{f"{c}{{}}": c for c in "-',?!"},
}


def normal(text: str) -> str:
    return " ".join(text.split())


def small_table(label: str, note: str = "note") -> Table:
    cells = (Cell("0.10", "best", (0,)), Cell("–"))
    return Table(
        name=label,
        title=label,
        row_group_head="kind",
        column_groups=(ColumnGroup(label, (Column(label, True, label), Column("b", False))),),
        row_groups=(
            RowGroup(label, (Row(label, "m", "method", cells),)),
            RowGroup("floor", (Row(label, "m", "baseline", cells),)),
        ),
        footnotes=(note,),
        notes=(note,),
    )


def parse_markdown(text: str) -> tuple[list[list[str]], list[str]]:
    """Rows of the table and items of the list, as a reader sees them."""
    rows: list[list[str]] = []
    items: list[str] = []
    in_item = False
    for token in MARKDOWN.parse(text):
        if token.type == "tr_open":
            rows.append([])
        in_item = token.type == "list_item_open" or (in_item and token.type != "list_item_close")
        if token.type == "inline":
            assert token.children is not None
            assert all(
                child.type != "html_inline" or re.fullmatch(r"</?(sup|u)>|<br>", child.content)
                for child in token.children
            )
            seen = "".join(
                child.content if child.type != "html_inline" else f"<{child.content[1:-1]}>"
                for child in token.children
                if child.type in ("text", "code_inline", "html_inline", "text_special")
            )
            if in_item:
                items.append(seen)
            elif rows:
                rows[-1].append(seen)
    return rows, items


@given(TEXTS)
def test_markdown_shows_any_text_as_it_is(text) -> None:
    printable = "".join(c if c.isprintable() or c.isspace() else "" for c in text)
    expected = normal(printable)
    html = MARKDOWN.render(f"- {escape_markdown(printable)}\n")
    inner = re.fullmatch(r"<ul>\n<li>(.*)</li>\n</ul>\n", html)
    assert inner
    decoded = inner[1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert decoded == expected
    assert "|" not in escape_markdown(text)
    assert "\n" not in escape_markdown(text)


@given(TEXTS.filter(normal))
def test_no_name_breaks_a_markdown_table(text) -> None:
    rows, items = parse_markdown(render_markdown(small_table(text, text)))
    assert [len(line) for line in rows] == [4, 4, 4]
    if text.isprintable():
        assert rows[1][:2] == [normal(text)] * 2
        assert rows[1][2] == "0.10<sup>a</sup>"
        assert items[0] == f"<sup>a</sup> {normal(text)}"
        assert items[-1] == normal(text)


def decode_latex(text: str) -> str:
    pattern = "|".join(re.escape(key) for key in sorted(LATEX_DECODED, key=len, reverse=True))
    return re.sub(pattern, lambda found: LATEX_DECODED[found[0]], text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_latex_escapes_can_be_read_back(text) -> None:
    assert decode_latex(escape_latex(text)) == normal(text)


@given(TEXTS)
def test_latex_escapes_leave_nothing_active(text) -> None:
    escaped = escape_latex(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    named = r"\\(text(backslash|ascii(circum|tilde|grave)|less|greater|bar)|ldots|ss|o|O)\{\}"
    commands = named + r"|\$(\^)?\\[a-z]+\$|\\[`'^~=\"rvc]\{[A-Za-z]\}|\\[{}$&#%_]"
    rest = re.sub(commands, "", escaped)
    assert not set(rest) & set("\\$&#%_~^<>|`")
    assert rest.count("{") == rest.count("}")
    assert not re.match(r"[\[*]", escaped)
    assert not re.search(r"--(?!-?($|[^-]))", rest) or any(c in text for c in "–—")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100% of a_b × é", r"100\% of a\_b $\times$ \'{e}"),
        ("[x]*", "{[}x{]}{*}"),
        ("a--b", "a-{}-b"),
        ("漢 \x07\udc80", "U+6F22 U+0007U+DC80"),
        (" a\n\tb ", "a b"),
    ],
)
def test_latex_escapes(text, expected) -> None:
    assert escape_latex(text) == expected


@pytest.mark.parametrize("module", [paper, render, tables_module])
def test_examples_in_docstrings(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_footnote_letters() -> None:
    assert [footnote_letter(n) for n in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        "a",
        "b",
        "z",
        "aa",
        "ab",
        "az",
        "ba",
        "zz",
        "aaa",
    ]


@pytest.mark.parametrize("number", TABLE_NUMBERS)
def test_markdown_of_the_paper(number) -> None:
    table, printed = comparison_table(number, [], {}), paper_table(number)
    rows, _ = parse_markdown(render_markdown(table))
    skip = 1 + (len(table.row_groups) > 1)
    assert len(rows) == 1 + len(table.rows)
    assert all(len(line) == skip + len(table.columns) for line in rows)
    assert [line[skip - 1] for line in rows[1:]] == [row.label for row in table.rows]
    for line, expected in zip(rows[1:], table.rows, strict=True):
        assert [re.sub(r"</?u>", "", text) for text in line[skip:]] == [cell.text for cell in expected.cells]
    heads = [text.split("<br>") for text in rows[0][skip:]]
    assert [head[1].split()[-1] for head in heads] == [column.arrow for column in table.columns]
    if not printed.settings_across:
        assert [head[0] for head in heads] == [block.dataset for block in printed.blocks for _ in block.metrics]


def test_marks_and_grey_rows_in_markdown_and_latex(make_run, metrics) -> None:
    values = {"gen3r@reference": 1.0, "wvd@reference": 2.0, "aether@official": 3.0, "freeze": 0.0}
    rows = (GEN3R, WVD, row("aether@official"), FREEZE)
    table = run_table(make_run(lambda p, r, *_: flat(values[r]), rows=rows, scenes=ENOUGH), "geom-1view", metrics)
    markdown, latex = render_markdown(table), render_latex(table)
    for text in ("**1.0000**", "<u>2.0000</u>", "*3.0000*", "| *freeze* ", "Accuracy ↓ (scene unit)"):
        assert text in markdown
    for text in (
        r"\benchbest{1.0000}",
        r"\benchsecond{2.0000}",
        r"\benchthird{3.0000}",
        r"\benchgrey{freeze} & \benchgrey{0.0000}",
    ):
        assert text in latex
    assert r"Accuracy\,$\downarrow$ (scene unit)" in latex


@pytest.mark.parametrize("number", TABLE_NUMBERS)
def test_latex_structure(number) -> None:
    table = comparison_table(number, [], {})
    text = render_latex(table)
    for name in ("table", "tabular", "minipage"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert [text.count(rule) for rule in (r"\toprule", r"\bottomrule")] == [1, 1]
    assert text.count(r"\midrule") == len(table.row_groups)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    width = len(table.columns) + (len(table.row_groups) > 1)
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == len(table.rows)
    assert all(len(re.findall(r"(?<!\\)&", line)) == width for line in lines)
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", text)]
    above = [2, 2] if number == 5 else []
    assert spans == [*above, *(len(group.columns) for group in table.column_groups)]
    ends = [tuple(map(int, pair)) for pair in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", text)]
    assert [last - first + 1 for first, last in ends] == spans
    assert ends[-1][1] == width + 1
    assert not re.search(r"(?<!\\)_", body.replace(r"\textasciitilde{}", ""))


def test_latex_compiles(make_run, metrics, tmp_path: Path) -> None:
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no LaTeX here: install pdflatex (texlive-latex-recommended) or tectonic to compile the tables")
    nasty = row("nasty", method_id="nasty").model_copy(update={"label": NASTY})
    run = make_run(
        lambda p, r, scene, s: NASTY if scene == "s0" else flat(1.0), rows=(GEN3R, nasty, FREEZE, ORACLE), title=NASTY
    )
    tables = [comparison_table(number, [], {}) for number in TABLE_NUMBERS]
    tables += [
        comparison_table(2, [run], metrics),
        run_table(run, "geom-1view", metrics),
        run_table(run, "geom-1view", metrics, spread="half-width"),
        small_table("[x]* " + NASTY, NASTY),
    ]
    claims = claim_table(2, [run], metrics, {})
    document = tmp_path / "all.tex"
    document.write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,colortbl,graphicx,multirow,xcolor}\n\\begin{document}\n"
        + "\n\\clearpage\n".join([*map(render_latex, tables), claims_latex(claims)])
        + "\n\\end{document}\n",
        encoding="utf-8",
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if engine.endswith("pdflatex") else []
    done = subprocess.run(
        [engine, *options, document.name], cwd=tmp_path, capture_output=True, text=True, errors="replace"
    )
    if engine.endswith("tectonic") and "network" in done.stderr + done.stdout:
        pytest.skip("tectonic could not fetch its packages")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_of_the_paper_is_the_paper() -> None:
    lines = read_csv(render_csv([comparison_table(number, [], {}) for number in TABLE_NUMBERS]))
    found = {(x["table"], x["setting"], x["row"], x["dataset"], x["metric"]): x["value"] for x in lines}
    expected = {
        (f"paper-table-{number}", key.setting, key.method, key.dataset, key.metric): value
        for number in TABLE_NUMBERS
        for key, value in paper_table(number).values.items()
    }
    assert found == expected
    assert len(lines) == 668
    assert {(x["source"], x["n"], x["N"], x["card_hash"]) for x in lines} == {("paper", "", "", "")}
    assert {x["method"] for x in lines if x["row"] == "2-Stage"} == {"gen3r-two-stage"}


def test_csv_of_a_run_keeps_every_digit_and_reason(make_run, metrics) -> None:
    def outcome(protocol, label, scene, seed):
        return NASTY if scene == "s1" else {"psnr@8bit": 20 + 1 / 3, "psnr@8bit/novel": 0.1}

    run = make_run(outcome, name="r", cards=(APPEARANCE_1VIEW,), rows=(GEN3R,), unsupported={"lpips@vgg": "no weights"})
    lines = {line["metric"]: line for line in read_csv(render_csv([run_table(run, "appearance-1view", metrics)]))}
    assert tuple(lines["psnr@8bit"]) == CSV_COLUMNS
    psnr = lines["psnr@8bit"]
    assert float(psnr["value"]) == 20 + 1 / 3
    assert (psnr["n"], psnr["N"], psnr["reasons"]) == ("2", "3", f"1 × failed: {NASTY}")
    assert (psnr["source"], psnr["card_hash"], psnr["run"]) == ("measured", APPEARANCE_1VIEW.hash, "r")
    assert (psnr["frames"], psnr["height"], psnr["width"]) == ("13", "112", "112")
    assert (lines["lpips@vgg"]["value"], lines["lpips@vgg"]["n"]) == ("", "0")
    assert "2 × unsupported: no weights" in lines["lpips@vgg"]["reasons"]
