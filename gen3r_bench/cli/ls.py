"""``gen3r-bench ls``: what there is: methods, datasets, protocols, metrics, dialects, tables."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gen3r_bench.cli import options

app = typer.Typer(help="List methods, datasets, protocols, metrics, dialects and tables.", no_args_is_help=True)


def _show(rows: list[dict[str, Any]], columns: list[str], as_json: bool, note: str = "") -> None:
    """Print rows as JSON with every field, or as a terminal table whose last column, and checkpoints, wrap."""
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from rich.table import Table

    # who registered a row is only worth a column where somebody else did
    if {row.get("source") for row in rows} == {"gen3r-bench"}:
        columns = [column for column in columns if column != "source"]
    table = Table(box=None, header_style="bold", pad_edge=False, caption=note or None, caption_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=column not in {"checkpoints", columns[-1]}, overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    options.table_console().print(table)


def _text(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return escape(", ".join(str(item) for item in value) or "–")
    return escape(str(value))


@app.command()
def methods(json_: options.Json = False) -> None:
    """Methods with their contracts, and the diagnostic rows."""
    import dataclasses

    from gen3r_bench import registry
    from gen3r_bench.baselines.diagnostics import DIAGNOSTICS

    found = registry.methods()
    rows = []
    for name in found.names():
        contract = found.load(name).contract
        kind = "floor" if contract.floor else "method"
        rows.append({"kind": kind, "source": found.entry(name).distribution, **dataclasses.asdict(contract)})
    for row in DIAGNOSTICS.values():
        rows.append(
            {
                "kind": "diagnostic",
                "source": "gen3r-bench",
                "method_id": row.row_id,
                "summary": row.summary,
                "settings": ("1view", "2view", "allview"),
                "cameras": None,
                "checkpoints": (),
            }
        )
    columns = ["method_id", "kind", "settings", "checkpoints", "source", "summary"]
    _show(rows, columns, json_, "Diagnostic rows look at the ground truth: built in, not pluggable, never ranked.")


@app.command()
def datasets(json_: options.Json = False) -> None:
    """Datasets that can be read."""
    import dataclasses

    from gen3r_bench import registry

    found = registry.datasets()
    rows = []
    for name in found.names():
        reader = found.load(name)
        rows.append(
            {
                **dataclasses.asdict(reader.info),
                "source": found.entry(name).distribution,
                "options": [dataclasses.asdict(option) for option in reader.options],
                "summary_and_options": " ".join(
                    [reader.info.summary, *(f"[{option.name}={option.default}]" for option in reader.options)]
                ),
            }
        )
    columns = ["name", "title", "has_depth", "scale", "needs_root", "source", "summary_and_options"]
    _show(rows, columns, json_, "In brackets: --dataset-option NAME=VALUE, with its default (explained in --json).")


@app.command()
def protocols(
    card: Annotated[str | None, typer.Option("--card", metavar="NAME", help="Print one card in full, as JSON.")] = None,
    json_: options.Json = False,
) -> None:
    """Protocols, each with the hash of its card."""
    from gen3r_bench import registry

    found = registry.protocols()
    if card is not None:
        chosen = found.load(card)
        typer.echo(json.dumps({"hash": chosen.hash, **chosen.model_dump(mode="json")}, indent=1, ensure_ascii=False))
        return
    rows = []
    for name in found.names():
        loaded = found.load(name)
        rows.append(
            {
                "name": name,
                "hash": loaded.hash,
                "setting": loaded.setting,
                "cameras": loaded.cameras,
                "paper_tables": loaded.paper_tables,
                "datasets": [
                    f"{dataset} {'all' if clip.scenes is None else clip.scenes}"
                    for dataset, clip in loaded.datasets.items()
                ],
                "metrics": [key.partition("@")[0] for key in loaded.metrics],
                "source": found.entry(name).distribution,
            }
        )
    columns = ["name", "hash", "setting", "cameras", "paper_tables", "source", "metrics"]
    _show(rows, columns, json_, "One card in full: gen3r-bench ls protocols --card NAME")


@app.command()
def metrics(json_: options.Json = False) -> None:
    """Metrics in every dialect, and whether they can be computed on this machine as it is now."""
    import math

    from gen3r_bench import registry

    rows = [
        {
            "key": metric.key,
            "title": metric.title,
            "unit": metric.unit or None,
            "better": "higher" if metric.higher_is_better else "lower",
            "range": [bound if math.isfinite(bound) else str(bound) for bound in metric.bounds],
            "computed": obstacle is None,
            "reference": metric.reference,
            "unavailable": obstacle,
            "reference_or_obstacle": metric.reference if obstacle is None else f"unavailable: {obstacle}",
        }
        for metric in registry.metrics().values()
        for obstacle in [metric.obstacle()]
    ]
    _show(rows, ["key", "unit", "better", "computed", "reference_or_obstacle"], json_)


@app.command()
def dialects(json_: options.Json = False) -> None:
    """Dialects: the other ways to compute a metric of the same name, which `explain` compares."""
    from gen3r_bench.protocols.dialects import DIALECTS

    rows = [
        {
            "dialect": dialect.key,
            "metrics": dialect.metrics,
            "used_by": dialect.used_by,
            "summary": dialect.summary,
            "source": dialect.source,
        }
        for dialect in DIALECTS
    ]
    columns = ["dialect", "used_by", "summary"]
    _show(rows, columns, json_, "A run's numbers in all of them: gen3r-bench explain RUN")


@app.command()
def tables(json_: options.Json = False) -> None:
    """The paper's nine tables, and the protocols that feed them."""
    from gen3r_bench import registry
    from gen3r_bench.reports.paper import TABLE_NUMBERS, paper_table

    found = registry.protocols()
    cards = [found.load(name) for name in found.names()]
    rows = [
        {
            "table": number,
            "title": paper_table(number).title,
            "datasets": list(dict.fromkeys(block.dataset for block in paper_table(number).blocks)),
            "protocols": [card.name for card in cards if number in card.paper_tables],
        }
        for number in TABLE_NUMBERS
    ]
    _show(rows, ["table", "protocols", "title"], json_)
