"""Exercises: handlers to write, checked against real faults.

A new one is one new file, ``n05_name.py`` for notebook 05, which holds an ``EXERCISE``.
"""

from labkit.exercises.book import Progress, progress
from labkit.exercises.checking import check
from labkit.exercises.exercise import Exercise, Finding, Rule, Trial
from labkit.exercises.hints import hint, solution
from labkit.exercises.predictions import Prediction, predict
from labkit.exercises.report import Report
from labkit.exercises.shelf import EXERCISES

__all__ = [
    "EXERCISES",
    "Exercise",
    "Finding",
    "Prediction",
    "Progress",
    "Report",
    "Rule",
    "Trial",
    "check",
    "hint",
    "predict",
    "progress",
    "solution",
]
