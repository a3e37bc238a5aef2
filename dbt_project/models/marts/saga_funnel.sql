{{ config(order_by=['saga_type', 'position']) }}

with reached as (
    select
        saga_type,
        saga_id,
        step,
        min(step_number) as first_step_number,
        max(status = 'completed') as is_passed
    from {{ ref('fct_saga_steps') }}
    group by saga_type, saga_id, step
),

totals as (
    select
        saga_type,
        uniqExact(saga_id) as sagas
    from reached
    group by saga_type
),

steps as (
    select
        reached.saga_type as saga_type,
        reached.step as step,
        quantileExact(0.5) (reached.first_step_number) as median_step_number,
        count() as sagas_reached,
        countIf(reached.is_passed) as sagas_passed,
        countIf(sagas.status = 'completed') as completed_after,
        countIf(sagas.status = 'aborted') as aborted_after,
        countIf(sagas.status = 'running') as running_after
    from reached
    inner join {{ ref('fct_sagas') }} as sagas
        on reached.saga_type = sagas.saga_type and reached.saga_id = sagas.saga_id
    group by saga_type, step
)

select
    steps.saga_type as saga_type,
    steps.step as step,
    row_number() over (
        partition by steps.saga_type
        order by steps.median_step_number asc, steps.sagas_reached desc, steps.step asc
    ) as position,
    steps.median_step_number as median_step_number,
    totals.sagas as sagas,
    steps.sagas_reached as sagas_reached,
    steps.sagas_passed as sagas_passed,
    steps.sagas_reached / totals.sagas as reach_rate,
    steps.sagas_passed / steps.sagas_reached as pass_rate,
    steps.completed_after as completed_after,
    steps.aborted_after as aborted_after,
    steps.running_after as running_after,
    steps.completed_after / nullIf(steps.completed_after + steps.aborted_after, 0) as completion_rate
from steps
inner join totals on steps.saga_type = totals.saga_type
