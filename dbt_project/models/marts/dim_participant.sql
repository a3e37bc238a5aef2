{{ config(order_by='participant') }}

select
    participant,
    arraySort(groupUniqArray(saga_type)) as saga_types,
    uniqExact((saga_type, step)) as steps,
    count() as executions,
    countIf(status in ('failed', 'timed_out')) as failures,
    sum(compensations) as compensations,
    min(opened_at) as first_seen_at,
    max(last_event_at) as last_seen_at
from {{ ref('fct_saga_steps') }}
group by participant
