{{ config(order_by=['saga_type', 'step']) }}

with runs as (
    select
        *,
        coalesce(dateDiff('microsecond', started_at, ended_at), 0) as run_us
    from {{ ref('fct_saga_steps') }}
)

select
    saga_type,
    step,
    uniqExact(saga_id) as sagas,
    count() as executions,
    uniqExactIf(saga_id, execution > 1) as sagas_reworked,
    countIf(execution > 1) as repeats,
    max(execution) as max_executions,
    countIf(status in ('failed', 'timed_out')) as failures,
    sum(retries) as retries,
    sum(compensations) as compensations,
    sagas_reworked / sagas as rework_rate,
    repeats / executions as repeat_rate,
    sum(run_us) / 1000 as run_ms,
    sumIf(run_us, execution > 1) / 1000 as rework_run_ms,
    rework_run_ms / nullIf(run_ms, 0) as rework_run_share
from runs
group by saga_type, step
