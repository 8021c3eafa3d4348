"""When what is made of all waves is made: with the waves there are, whatever became of one of them.

Belongs here: the condition of assets that gather waves. Not here: the conditions of all others
(`automation.py`), what gathering does (`surveys/population_assets.py`).
"""

import dagster as dg

from evsim_assets.automation import changed_since_asked, failed_once, never_made


def gathering() -> dg.AutomationCondition:
    """`cheap`, but not waiting for a wave that was never made and failed, itself or where it was read.

    Such a wave is out of the table, which says so, until it is delivered as it should be. A wave that was
    made before and fails now is waited for, and so is what fails a blocking check.
    """
    condition = dg.AutomationCondition
    missing, failed = condition.missing(), condition.execution_failed()
    out = missing & (failed | condition.any_deps_match(failed))
    return (
        (changed_since_asked() | never_made() | failed_once())
        & ~condition.in_progress()
        & ~condition.any_deps_match(missing & ~out)
        & ~condition.any_deps_in_progress()
        & ~condition.any_deps_match(failed & ~missing)
        & ~condition.any_deps_match(changed_since_asked() & ~out)
        & condition.all_deps_blocking_checks_passed()
    )
