"""What a session and the trial of a push spend their time on before the training is at speed, each told as it begins.

Standard library only: the parent process tells the first of them.
"""

from __future__ import annotations

from kernel.contract.events import Phase

RESTORING = Phase(phase="restoring", detail="bringing the newest checkpoint over from the dataset")
LOADING = Phase(phase="loading", detail="loading torch and what the recipe imports")
TRIAL = Phase(phase="trial", detail="a little of the training as a trial; what is new here is compiled")
RESUME = Phase(phase="resume", detail="a resume from the checkpoint that the trial left")
PROOF = Phase(phase="proof", detail="the same stretch again in another process, to compare every state")
KILLS = Phase(phase="kills", detail="kills at instants drawn at random, each gone on from in another process")
ENVIRONMENT = Phase(phase="environment", detail="episodes that show what the environment is like")
SPEED = Phase(phase="speed", detail="the speed of training and of an evaluation")
PREPARING = Phase(phase="preparing", detail="making the environments and putting back a checkpoint")
FIRST_STEP = Phase(phase="first_step", detail="the first steps of the training, which may compile")
