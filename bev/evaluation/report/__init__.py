"""Reports: one self-contained HTML page and the same as Markdown, whatever was scored."""

from bev.evaluation.report.page import Picture, Section, Table, write_report

__all__ = ["Picture", "Section", "Table", "write_report"]
