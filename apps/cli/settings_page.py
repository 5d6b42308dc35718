"""The page `docs/settings.md`, made from the settings themselves: `./dev docs` writes it, a test compares it."""

from __future__ import annotations

from typing import Any

from rota_server.apps.settings import PREFIX, SECRET_FIELDS, Settings

HEAD = """# Settings

Environment variables with the prefix `ROTA_`, or the same names in a file `.env` in the folder where a command runs;
the environment wins. Most are options of the commands, too (`rota store --port`). Lists are separated by commas.
`ROTA_<NAME>_FILE` names a file that holds the value of `ROTA_<NAME>`: for secrets. `rota doctor` prints the effective
ones, secrets masked. This page is made from the code by `./dev docs`.

## Services

| setting | default | meaning |
|---|---|---|
"""

TAIL = """
## Clients

For the command line and the package `rota`. The command line reads them from `.env`, too; the package only from the
environment.

| setting | default | meaning |
|---|---|---|
| `ROTA_URL` | see below | the store |
| `ROTA_TOKEN` | | bearer token, one of the store's `ROTA_API_TOKENS`; secret |
| `ROTA_TOKEN_FILE` | | a file that holds it |

Without `ROTA_URL` a client takes the `rota up` that runs in the current folder (or keeps its data in `ROTA_DATA_DIR`),
else `http://127.0.0.1:3000` (or the port `ROTA_PORT`).

## Tracing

`OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables that OpenTelemetry defines; see [operations.md](operations.md).
"""


def settings_page() -> str:
    """Return the page's text."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return HEAD + "".join(rows) + TAIL


def _row(name: str, field: Any) -> str:
    meaning = (field.description or "") + ("; secret" if name in SECRET_FIELDS else "")
    return f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {meaning.replace('|', chr(92) + '|')} |\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{','.join(value)}`" if isinstance(value, tuple) else f"`{value}`"


if __name__ == "__main__":
    print(settings_page(), end="")  # noqa: T201 - into a file
