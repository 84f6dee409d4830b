"""Tables as JSON: what a table shows, and behind each cell every digit and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from gen3r_bench.reports.claims import ClaimTable
from gen3r_bench.reports.claims_render import claim_fields
from gen3r_bench.reports.tables import Table


def tables_json(tables: Sequence[Table | ClaimTable]) -> str:
    """Tables as a JSON list, one object a table, field by field as the classes have them; claims as in their CSV."""
    content = [_claims(table) if isinstance(table, ClaimTable) else dataclasses.asdict(table) for table in tables]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _claims(table: ClaimTable) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "claims": [claim_fields(claim) for claim in table.claims],
        "notes": table.notes,
        "environments": table.environments,
        "recipe": table.recipe,
    }
