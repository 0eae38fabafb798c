"""Graphs that ask for too much: known from their shapes alone, refused before anything is allocated."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from builders import tiny_graph

from inr_runtime.errors import GraphError, LimitError, NvbError
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.lower import TARGETS, lower
from inr_runtime.tensors import quantize
