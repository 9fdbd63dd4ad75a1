"""Event patterns: compiled once, asked for every event."""

from lambent.events.patterns.filters import Filters, compile_filters
from lambent.events.patterns.pattern import BUS, MAPPING, TOPIC, Dialect, Pattern, PatternRefused, compile_pattern
from lambent.events.patterns.policies import Policy, compile_policy

__all__ = [
    "BUS",
    "MAPPING",
    "TOPIC",
    "Dialect",
    "Filters",
    "Pattern",
    "PatternRefused",
    "Policy",
    "compile_filters",
    "compile_pattern",
    "compile_policy",
]
