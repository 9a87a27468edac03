# The public names, and the rooms that they come from: what stands here is for everybody to use, and stays. All else in
# the package is the lab's own, and may change from one version to the next.
#
# Type checkers and editors read this file, and __init__.py reads it too, so a name is written down once. The class of a
# fault is public by standing in the __all__ of its family.

from labkit.clients import CLIENTS as CLIENTS
from labkit.doctor import examine as examine
from labkit.errors import LabError as LabError
from labkit.events import Event as Event
from labkit.exercises import EXERCISES as EXERCISES
from labkit.exercises import check as check
from labkit.exercises import hint as hint
from labkit.exercises import predict as predict
from labkit.exercises import progress as progress
from labkit.exercises import solution as solution
from labkit.experiment.attached import watch as watch
from labkit.experiment.hosting import host as host
from labkit.experiment.moments import moments as moments
from labkit.experiment.party import party as party
from labkit.experiment.play import play as play
from labkit.experiment.processes import process as process
from labkit.experiment.run import Run as Run
from labkit.experiment.run import load as load
from labkit.experiment.strip import Strip as Strip
from labkit.experiment.strip import Strips as Strips
from labkit.experiment.token import replay as replay
from labkit.experiment.when import Await as Await
from labkit.experiment.when import Frame as Frame
from labkit.experiment.wire import Wire as Wire
from labkit.faults import *
from labkit.matrices import Matrix as Matrix
from labkit.matrices import matrix as matrix
from labkit.resources import note as note
from labkit.resources import resource as resource
from labkit.stacks import STACKS as STACKS
from labkit.support.clock import scaled as scaled
from labkit.support.loop import run as run
from labkit.timeline import Timeline as Timeline
from labkit.timemachine import time_machine as time_machine
from labkit.verdict import Verdict as Verdict
from labkit.views.canvas.picture import figure as figure
from labkit.views.claims import claims as claims
from labkit.views.deliveries import deliveries as deliveries
from labkit.views.table import table as table
