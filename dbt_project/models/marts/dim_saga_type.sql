{{ config(order_by='saga_type') }}

with steps as (
    select
        saga_type,
        uniqExact(step) as steps,
        uniqExact(participant) as participants
    from {{ ref('fct_saga_steps') }}
    group by saga_type
)

select
    sagas.saga_type as saga_type,
    count() as sagas,
    countIf(sagas.status = 'running') as running,
    countIf(sagas.status = 'completed') as completed,
    countIf(sagas.status = 'aborted') as aborted,
    coalesce(any(steps.steps), 0) as steps,
    coalesce(any(steps.participants), 0) as participants,
    arraySort(groupUniqArrayIf(sagas.currency, sagas.currency != '')) as currencies,
    min(sagas.started_at) as first_started_at,
    max(sagas.last_event_at) as last_event_at
from {{ ref('fct_sagas') }} as sagas
left join steps on sagas.saga_type = steps.saga_type
group by saga_type
