"""Studies: plan, trials, statistics, verdict."""

from flatvq.study.arms import PlannedArm
from flatvq.study.cluster import ClusterTrials, cancel_jobs
from flatvq.study.complete import run_study
from flatvq.study.data import StudyData
from flatvq.study.design import fix_design
from flatvq.study.estimate import estimate_seconds
from flatvq.study.outcome import Outcome, StudyProgress
from flatvq.study.packing import pack
from flatvq.study.plan import Plan, Trial, plan_study, planned_arms, planned_trial
from flatvq.study.results import write_study
from flatvq.study.runner import run_trials
from flatvq.study.scheduler import StudyStopped
from flatvq.study.sequential import LookResult, look_to_run, run_look, seconds_to

__all__ = [
    "ClusterTrials",
    "LookResult",
    "Outcome",
    "Plan",
    "PlannedArm",
    "StudyData",
    "StudyProgress",
    "StudyStopped",
    "Trial",
    "cancel_jobs",
    "estimate_seconds",
    "fix_design",
    "look_to_run",
    "pack",
    "plan_study",
    "planned_arms",
    "planned_trial",
    "run_look",
    "run_study",
    "run_trials",
    "seconds_to",
    "write_study",
]
