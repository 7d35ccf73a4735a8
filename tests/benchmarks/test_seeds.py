"""The table of seeds counts those that are worse than plain training's spread allows."""

from benchmarks import seeds


def test_seeds_above_the_limit_are_counted():
    plain, plugin = [50.0, 54.0, 52.0], [51.0, 58.5, 40.0]
    found = {
        name: [{"in-domain": value, "cross-dataset": 100 - value} for value in values]
        for name, values in (("plain", plain), ("default", plugin))
    }
    rows = {(row["test"], row["method"]): row for row in seeds.seeds(found)}
    assert rows["in-domain", "default"]["limit"] == 58.0
    assert rows["in-domain", "default"]["seeds above"] == 1
    assert rows["in-domain", "plain"]["seeds above"] == 0
    assert rows["cross-dataset", "default"]["seeds above"] == 1  # 60 of at most 54
