"""BI: the dbt project as assets, its tests as asset checks.

Nothing is imported here: ``assets.bi.assets`` needs the prepared graph, and where that is stale it waits for
``python -m assets.bi.translation``, which imports this package first.
"""
