import json

import pandas as pd
import pytest
from saebook.tables import reference_run, show


def test_values_are_escaped_and_shares_are_percentages():
    html = show(pd.DataFrame({"name": ["<b>"], "recovered_at_most": [0.125], "l0": [3.14159], "score": [None]})).data
    assert "&lt;b&gt;" in html and "<b>" not in html
    assert "12.50%" in html and "3.1" in html and "recovered at most" in html


def keep_run(folder, scores, seeds="0,1"):
    folder.mkdir(exist_ok=True)
    pd.DataFrame({"score": scores}).to_csv(folder / "scores.csv", index=False)
    record = {
        "command": f"python book/sweep.py 01_a -g seed={seeds}",
        "commit": "0123456789abcdef",
        "date": "2026-11-22T10:00:00+00:00",
        "total_seconds": 600,
        "machine": {"cpu": "a processor", "cores": 2, "torch": "2.13.0"},
        "remark": "Other work ran beside it.",
    }
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_reference_run_says_how_it_was_made(tmp_path):
    keep_run(tmp_path, [1.0, 2.0])
    run = reference_run(tmp_path)
    assert run and run.tables["scores"]["score"].sum() == 3
    command = "python book/sweep.py 01_a"
    for part in ("not made by this build", "2026-11-22", "0123456789", "10 minutes", command, "Other work"):
        assert part in run.label


def test_runs_side_by_side_are_one_table_with_a_label_each(tmp_path):
    keep_run(tmp_path / "first", [1.0, 2.0])
    keep_run(tmp_path / "later", [3.0], seeds="2")
    run = reference_run(tmp_path)
    assert run.tables["scores"]["score"].tolist() == [1, 2, 3]
    assert "seed=0,1" in run.label and "seed=2" in run.label


def test_no_reference_run_is_asked_for_or_there(tmp_path):
    assert not reference_run("")
    with pytest.raises(FileNotFoundError, match="There is no reference run in .*nowhere"):
        reference_run(tmp_path / "nowhere")
