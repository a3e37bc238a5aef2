-- depends_on: {{ ref('int_touched_sagas') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='delete_insert',
        unique_key=['saga_type', 'saga_id'],
        order_by=['saga_type', 'saga_id'],
        partition_by='toYYYYMM(started_at)',
        pre_hook=['{{ hold_fence() }}', '{{ keep_stale_hours() }}'],
    )
}}

with events as (
    select
        *,
        event_type in ('isthmus.saga.completed', 'isthmus.saga.aborted') as is_ending,
        (
            event_time,
            multiIf(event_type = 'isthmus.saga.started', 0, event_type = 'isthmus.saga.step', 1, 2),
            length(event_id),
            event_id,
            source
        ) as event_order
    from {{ ref('stg_saga_events') }}
    {% if is_incremental() %}
        where saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
    {% endif %}
),

sagas as (
    select
        saga_type,
        saga_id,
        min(events.event_time) as started_at,
        argMinIf(toNullable(events.event_time), events.event_order, events.is_ending) as ended_at,
        argMinIf(events.event_type, events.event_order, events.is_ending) as ending_type,
        -- In a tuple, since a null in the first of them must not give way to the next.
        argMinIf(tuple(events.reason, events.outcome), events.event_order, events.is_ending) as ending,
        argMinIf(events.amount, events.event_order, isNotNull(events.amount)) as amount,
        argMinIf(events.currency, events.event_order, events.currency != '') as currency,
        argMinIf(events.attributes, events.event_order, events.event_type = 'isthmus.saga.started') as attributes,
        toUInt32(count()) as event_count,
        toUInt32(countIf(events.status = 'retried')) as retries,
        toUInt32(countIf(events.status = 'compensated')) as compensations,
        max(events.event_time) as last_event_at,
        max(events.appended_at) as last_appended_at,
        toUInt8(countIf(events.event_type = 'isthmus.saga.started') > 0) as has_started_event,
        toUInt32(countIf(events.is_ending)) as ending_events
    from events
    group by saga_type, saga_id
),

steps as (
    select
        saga_type,
        saga_id,
        toUInt32(count()) as steps,
        toUInt32(uniqExact(step)) as distinct_steps,
        toUInt32(uniqExact(participant)) as participants,
        toUInt32(countIf(status in ('failed', 'timed_out'))) as failures,
        sum(dateDiff('microsecond', scheduled_at, started_at)) as queue_us,
        sum(dateDiff('microsecond', started_at, ended_at)) as run_us,
        argMax(step, step_number) as last_step
    from {{ ref('fct_saga_steps') }}
    {% if is_incremental() %}
        where saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
    {% endif %}
    group by saga_type, saga_id
)

select
    sagas.saga_type as saga_type,
    sagas.saga_id as saga_id,
    sagas.started_at as started_at,
    sagas.ended_at as ended_at,
    toLowCardinality(multiIf(
        sagas.ending_type = 'isthmus.saga.completed', 'completed',
        sagas.ending_type = 'isthmus.saga.aborted', 'aborted',
        'running'
    )) as status,
    tupleElement(sagas.ending, 1) as abort_reason,
    tupleElement(sagas.ending, 2) as outcome,
    sagas.amount as amount,
    toLowCardinality(sagas.currency) as currency,
    if(sagas.attributes = '', '{}', sagas.attributes) as attributes,
    dateDiff('microsecond', sagas.started_at, sagas.ended_at) / 1000 as duration_ms,
    sagas.event_count as events,
    coalesce(steps.steps, 0) as steps,
    coalesce(steps.distinct_steps, 0) as distinct_steps,
    coalesce(steps.participants, 0) as participants,
    coalesce(steps.failures, 0) as failures,
    sagas.retries as retries,
    toUInt32(coalesce(steps.steps - steps.distinct_steps, 0)) as repeats,
    sagas.compensations as compensations,
    coalesce(steps.queue_us, 0) / 1000 as queue_ms,
    coalesce(steps.run_us, 0) / 1000 as run_ms,
    toLowCardinality(coalesce(steps.last_step, '')) as last_step,
    sagas.last_event_at as last_event_at,
    sagas.last_appended_at as last_appended_at,
    sagas.has_started_event as has_started_event,
    sagas.ending_events as ending_events
from sagas
left join steps on sagas.saga_type = steps.saga_type and sagas.saga_id = steps.saga_id
