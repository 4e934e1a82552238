"""The page that shows every table and figure of a study made so far: reads answers, trains nothing."""

from innerloop.report.collect import Find
from innerloop.report.page import Report, compose, write

__all__ = ["Find", "Report", "compose", "write"]
