"""Exercises: a learner writes a handler, and the lab checks it against real faults.

To add an exercise, write one new file, such as ``n05_name.py`` for notebook 05, that defines an ``EXERCISE``.
"""

from labkit.exercises.checking import check
from labkit.exercises.exercise import Exercise, Rule, Ruling, Trial
from labkit.exercises.hints import hint, solution
from labkit.exercises.predictions import Prediction, predict
from labkit.exercises.progress_file import Progress, progress
from labkit.exercises.registry import EXERCISES
from labkit.exercises.report import Report

__all__ = [
    "EXERCISES",
    "Exercise",
    "Prediction",
    "Progress",
    "Report",
    "Rule",
    "Ruling",
    "Trial",
    "check",
    "hint",
    "predict",
    "progress",
    "solution",
]
