"""Write the table of config keys in config/README.md from the schemas: `python docs/config_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "workflow" / "schemas"
PAGE = ROOT / "config" / "README.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"


def table() -> str:
    """Markdown table of every key with its default and meaning."""
    schema = _schema("config.schema.yaml")
    rows = ["| key | default | allowed, meaning |", "|---|---|---|"]
    for block, rule in schema["properties"].items():
        rule = _schema(rule["$ref"]) if "$ref" in rule else rule
        if not rule["properties"]:
            rows.append(f"| `{block}` | `null` | {_meaning(rule)} |")
        for key, sub in rule["properties"].items():
            required = key in rule.get("required", ())
            default = "**required**" if required else f"`{json.dumps(sub.get('default'), ensure_ascii=False)}`"
            rows.append(f"| `{block}.{key}` | {default} | {_meaning(sub)} |")
    return "\n".join(rows) + "\n"


def _schema(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8"))
    return content


def _meaning(rule: dict[str, Any]) -> str:
    parts = []
    if "enum" in rule:
        parts.append(", ".join(json.dumps(value).strip('"') for value in rule["enum"]))
    bounds = [
        f"{sign} {rule[word]}"
        for word, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if word in rule and abs(rule[word]) < 1e9
    ]
    if bounds:
        parts.append(", ".join(bounds))
    if "description" in rule:
        parts.append(rule["description"])
    return "; ".join(parts)


def page() -> str:
    """The text of the page, with the table of the present schema."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
