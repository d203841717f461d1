"""Judges of the exercises, a module for each chapter; importing this registers them all."""

from . import analysis as analysis
from . import checking as checking
from . import engine as engine
from . import fitting as fitting
from . import gradients as gradients
from . import observing as observing
from . import plates as plates
from . import random_variable as random_variable
from . import sample_statement as sample_statement
from . import worlds as worlds
