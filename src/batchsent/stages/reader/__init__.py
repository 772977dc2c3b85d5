"""Shards → parts, in a process of its own with a memory limit.

A crash or a bomb inside a native parser costs one shard, not the job. ``ReaderProcess`` is what the job holds;
``serve`` is the other end.
"""

from batchsent.stages.reader.parquet import layout_of
from batchsent.stages.reader.process import ReaderProcess, serve
from batchsent.stages.reader.shards import InspectRequest, ReadRequest
from batchsent.stages.reader.survey import Column, Survey, SurveyRequest
from batchsent.stages.reader.text_stream import is_stored_as_parsed

__all__ = [
    "Column",
    "InspectRequest",
    "ReadRequest",
    "ReaderProcess",
    "Survey",
    "SurveyRequest",
    "is_stored_as_parsed",
    "layout_of",
    "serve",
]
