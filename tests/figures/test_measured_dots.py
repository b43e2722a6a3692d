"""The picture of what was measured: a panel a data set, a dot a group of runs, labels that tell
groups apart.
"""

import pandas as pd

from astroformer import paths
from astroformer.figures import measured
from astroformer.ledger import records, tables


def test_every_group_of_the_ledger_is_a_dot_in_the_panel_of_its_data_set():
    frame = records.frame(records.read(paths.LEDGER))
    groups = tables.groups(frame)
    figure = measured.dots(frame)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == sorted({tables.title(group.iloc[0]) for group in groups})
    for axis in figure.axes:
        own = [g for g in groups if tables.title(g.iloc[0]) == axis.get_title(loc="left")]
        means = sorted(float(tables.metric(group, "top1").mean()) for group in own)
        drawn = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
        assert [round(value, 6) for value in drawn] == [round(value, 6) for value in means]
        counts = [int(label.get_text().rpartition("(")[2][:-1]) for label in axis.get_yticklabels()]
        assert sorted(counts) == sorted(map(len, own))


def test_groups_of_a_network_are_told_apart_by_what_they_do_not_share():
    frame = records.frame(records.read(paths.LEDGER))
    found = {}
    for group in tables.groups(frame):
        found.setdefault(tables.title(group.iloc[0]), []).append(group)
    for groups in found.values():
        for label, group in zip(measured._labels(groups), groups):
            first = group.iloc[0]
            assert label.startswith(first["model"])
            alone = sum(g.iloc[0]["model"] == first["model"] for g in groups) == 1
            assert label == first["model"] or not alone


def test_without_a_run_the_picture_is_empty():
    assert not measured.dots(pd.DataFrame()).axes[0].lines
