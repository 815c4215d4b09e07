"""Text, tables and pictures as HTML that needs no other file, and as Markdown with its pictures beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import isnan
from pathlib import Path

Cell = str | float | int | None

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#ecf0f6;background:#10131a}
body{max-width:1180px;margin:2em auto;padding:0 1.2em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:2.2em;border-bottom:1px solid #3a4354}
p{max-width:75ch}table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3em 0}
th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #2a3140}th:first-child,td:first-child{text-align:left}
thead th{border-bottom:2px solid #5a6678}.scroll{overflow-x:auto}
figure{margin:1em 0}figure img{max-width:100%;height:auto}figcaption{color:#96a0b0;font-size:.9em}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:1em}.gallery figure{margin:0}
"""


@dataclass(frozen=True)
class Table:
    """Rows of a table; numbers are written with three decimals, None and NaN as a dash."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """An encoded picture; ``name`` is its file name, whose suffix (png or jpg) says what it is."""

    name: str
    caption: str
    data: bytes


@dataclass(frozen=True)
class Section:
    """A heading with text, tables and pictures under it, in this order; ``gallery``: pictures side by side."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default_factory=list)
    gallery: bool = False


def write_report(folder: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Write ``report.html``, ``report.md`` and the Markdown's pictures (``pictures/``); returns the page's path.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for section in sections:
        for picture in section.pictures:
            _write(folder / "pictures" / picture.name, picture.data)
    _write(folder / "report.md", markdown(title, sections).encode())
    _write(folder / "report.html", html(title, sections).encode())
    return folder / "report.html"


def _write(path: Path, data: bytes) -> None:
    """Readers see the old file or the whole new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def html(title: str, sections: Sequence[Section]) -> str:
    """One page; every picture is inside it."""
    body = "\n".join(_html_section(section) for section in sections)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _html_section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(section.text)}</p>"] if section.text else []
    parts += [_html_table(table) for table in section.tables]
    figures = "\n".join(_html_picture(picture) for picture in section.pictures)
    parts += [f'<div class="gallery">{figures}</div>' if section.gallery else figures] if figures else []
    return "\n".join(parts)


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = ("".join(f"<td>{escape(cell(value))}</td>" for value in row) for row in table.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _html_picture(picture: Picture) -> str:
    kind = "jpeg" if picture.name.endswith(".jpg") else "png"
    source = f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"
    caption = escape(picture.caption)
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same with links to ``pictures/``."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [section.text] if section.text else []
        parts += [_markdown_table(table) for table in section.tables]
        parts += [f"![{p.caption}](pictures/{p.name})\n{p.caption}" for p in section.pictures]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"**{table.caption}**\n"] if table.caption else []
    lines.append("| " + " | ".join(table.header) + " |")
    lines.append("|" + "---|" + "---:|" * (len(table.header) - 1))
    lines += ["| " + " | ".join(cell(value).replace("|", "\\|") for value in row) + " |" for row in table.rows]
    return "\n".join(lines)


def cell(value: Cell) -> str:
    """Text of a table's cell."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
