"""One self-contained HTML page, and metrics.json, out of a :class:`~anygrid.evaluate.Report`."""

from anygrid.report.page import page, write_report

__all__ = ["page", "write_report"]
