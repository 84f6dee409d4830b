"""Tables as JSON: what a table shows, and behind each cell every digit and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from gen3r_bench.reports.claims import ClaimTable
from gen3r_bench.reports.tables import Table


def tables_json(tables: Sequence[Table | ClaimTable]) -> str:
    """Tables as a JSON list, one object a table, field by field as the classes have them."""
    content = [dataclasses.asdict(table) for table in tables]
    return json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"
