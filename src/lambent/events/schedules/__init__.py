"""Schedules: times that are written down, and targets that are called at them."""
