"""Readable names for containers whose users gave none."""

from __future__ import annotations

import os

from strata.engine.core import Engine
from strata.store.records import new_id

_FIRST = """amber bold brave brisk calm clever cosy crisp eager fair fleet fond gentle glad golden
happy hardy keen kind lively lucid merry mild neat nimble noble plucky proud quick quiet rapid
ready sharp shy silent silver sleek smart snug solid spry stable steady still sunny swift tidy
vivid warm wise witty"""

_LAST = """basalt beryl chalk clay coal cobalt copper coral dolomite dune feldspar flint fossil
garnet geode gneiss granite gravel gypsum halite jasper karst lava lime loam loess marble marl
mica moraine obsidian onyx opal peat pumice pyrite quartz sand sandstone schist shale silt slate
talc tuff zircon"""


def make_name(e: Engine) -> str:
    """A name that is free now, such as ``quiet_gneiss``."""
    first, last = _FIRST.split(), _LAST.split()
    for _ in range(64):
        one, two = os.urandom(2)
        name = f"{first[one % len(first)]}_{last[two % len(last)]}"
        if e.records.find_name("container", name) is None:
            return name
    return f"{first[0]}_{last[0]}_{new_id(8)}"
