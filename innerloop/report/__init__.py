"""The page that shows every table and figure made so far beside the paper's: reads results, trains nothing."""

from innerloop.report.collect import Find
from innerloop.report.page import Report, page, write

__all__ = ["Find", "Report", "page", "write"]
