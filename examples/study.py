"""Run a study from Python: two levels against one level of the same bits and multiply-adds.

Run `python examples/study.py`. If it is interrupted, run it again: it resumes, and keeps finished trials.
"""

import argparse
from pathlib import Path

import flatvq

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300, help="optimizer steps of each trial")
parser.add_argument("--seeds", type=int, default=3, help="trials of each arm")
parser.add_argument("--out", type=Path, default=Path("studies/example"), help="folder of the study")
arguments = parser.parse_args()

level, half = (
    flatvq.LevelRecipe(downsample=4, codebook_size=256),
    flatvq.LevelRecipe(downsample=2, codebook_size=256),
)
recipe = flatvq.StudyRecipe(
    title="Do two levels reconstruct better than one?",
    model=flatvq.ModelRecipe(width=32, residual_width=16, levels=(level, half)),
    train=flatvq.TrainRecipe(steps=arguments.steps, batch_size=16, learning_rate=1e-3, schedule="cosine"),
    # The solver chooses the codebook size and the width of `one-level`, so that both arms spend the same.
    match=flatvq.MatchRecipe(capacities=("bits", "multiply_adds"), solve=True),
    arms={
        "two-level": flatvq.ArmRecipe(),
        "one-level": flatvq.ArmRecipe(model={"levels": [{"downsample": 4}]}),
    },
    seeds=tuple(range(arguments.seeds)),
    margin=0.1,
)

for arm in flatvq.plan_study(recipe, "example").arms:
    print(
        f"{arm.name}: {arm.capacity.bits_per_image:.0f} bits an image, {arm.capacity.parameters} parameters"
    )

study = flatvq.run_study(recipe, arguments.out)

for trial in study.trials:
    usages = [level.value("usage") for level in trial.levels or ()]
    usage = ", ".join(f"{share:.0%}" for share in usages if share is not None)
    print(f"{trial.arm}, seed {trial.seed}: {trial.psnr_db:.2f} dB, codes used by level: {usage}")
print(study.verdict.sentence)
print(f"Report: {flatvq.write_report(arguments.out)}")
