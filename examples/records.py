"""Read the records of a study with pandas.

Run `python examples/records.py STUDY`. STUDY is the folder of a finished study, such as `studies/example`.
"""

import argparse
from pathlib import Path

import pandas as pd

import flatvq

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("study", type=Path, help="folder with a study.json")
folder = parser.parse_args().study

study = flatvq.load_study(folder)
done = [trial for trial in study.trials if trial.done]

# One row for each trial. The seed is the unit of replication.
trials = pd.DataFrame([trial.model_dump(include={"arm", "seed", "psnr_db", "ssim"}) for trial in done])
print(trials.groupby("arm")[["psnr_db", "ssim"]].agg(["mean", "std"]).round(3), "\n")

# One row for each level of each trial: how much of the codebook is used.
levels = pd.DataFrame(
    [
        {"arm": trial.arm, "seed": trial.seed, "level": number, **level.model_dump()}
        for trial in done
        for number, level in enumerate(trial.levels or ())
    ]
)
print(levels.groupby(["arm", "level"])[["usage", "perplexity"]].mean().round(3), "\n")

# The training curves: the records of kind `train` in each run's records.jsonl.
rows = [
    {"arm": trial.arm, "seed": trial.seed, **row}
    for trial in done
    for row in flatvq.load_jsonl(trial.folder(folder) / "records.jsonl").rows
    if row["kind"] == "train"
]
losses = pd.DataFrame(rows).pivot_table(index="step", columns="arm", values="loss")
print(losses.tail(3).round(4), "\n")

# One row for each held-out image of each trial: which images differ most between the arms.
images = pd.concat(
    pd.DataFrame(flatvq.read_images(trial.folder(folder))).assign(arm=trial.arm, seed=trial.seed)
    for trial in done
)
table = images.pivot_table(index="image", columns="arm", values="psnr_db")
a, b = study.comparisons[0].a, study.comparisons[0].b
print(f"Images with the largest difference of PSNR, {a} minus {b}, dB:")
print((table[a] - table[b]).sort_values(key=abs, ascending=False).head(3).round(2))
