"""Judges of the exercises, a module for each chapter; importing this registers them all."""

from . import random_variable as random_variable
