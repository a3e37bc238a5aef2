{{
    config(
        materialized='incremental',
        incremental_strategy='delete_insert',
        unique_key=['saga_type', 'saga_id'],
        order_by=['saga_type', 'saga_id', 'step_number'],
        partition_by='toYYYYMM(opened_at)',
        pre_hook='{{ hold_fence() }}',
    )
}}

with events as (
    select
        *,
        multiIf(
            status = 'scheduled', 0,
            status = 'started', 1,
            status = 'retried', 3,
            status = 'compensated', 4,
            2
        ) as status_rank,
        status_rank < 3 as is_lifecycle,
        (event_time, attempt, status_rank, length(event_id), event_id, source) as pairing_order
    from {{ ref('stg_saga_events') }}
    where
        event_type = 'isthmus.saga.step'
        {% if is_incremental() %}
            and saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
        {% endif %}
),

opened as (
    select
        *,
        anyLast(if(is_lifecycle, status_rank, null)) over (
            partition by saga_type, saga_id, step, attempt
            order by pairing_order asc
            rows between unbounded preceding and 1 preceding
        ) as previous_rank,
        multiIf(
            not is_lifecycle, 0,
            status_rank = 0, 1,
            status_rank = 1, coalesce(previous_rank, 9) != 0,
            coalesce(previous_rank, 9) not in (0, 1)
        ) as opens
    from events
),

numbered as (
    select
        *,
        sum(opens) over (
            partition by saga_type, saga_id, step, attempt
            order by pairing_order asc
            rows between unbounded preceding and current row
        ) as pair_number
    from opened
),

carried as (
    select
        *,
        anyLast(if(is_lifecycle, attempt, null)) over step_so_far as last_attempt,
        anyLast(if(is_lifecycle, pair_number, null)) over step_so_far as last_pair_number
    from numbered
    window step_so_far as (
        partition by saga_type, saga_id, step
        order by pairing_order asc
        rows between unbounded preceding and current row
    )
),

owned as (
    select
        *,
        multiIf(
            pair_number > 0, (attempt, pair_number, '', ''),
            isNotNull(last_attempt), (assumeNotNull(last_attempt), assumeNotNull(last_pair_number), '', ''),
            (attempt, toUInt64(0), source, event_id)
        ) as owner
    from carried
),

executions as (
    select
        saga_type,
        saga_id,
        step,
        owner,
        argMin(participant, pairing_order) as participant,
        argMin(attempt, pairing_order) as attempt,
        argMin((event_time, length(event_id), event_id, source), pairing_order) as opening,
        minIf(toNullable(event_time), status = 'scheduled') as scheduled_at,
        minIf(toNullable(event_time), status = 'started') as started_at,
        minIf(toNullable(event_time), status_rank = 2) as ended_at,
        if(
            max(is_lifecycle),
            argMaxIf(status, pairing_order, is_lifecycle),
            argMax(status, pairing_order)
        ) as status,
        argMaxIf(duration_ms, pairing_order, is_lifecycle and isNotNull(duration_ms)) as reported_ms,
        argMinIf(load, pairing_order, is_lifecycle and isNotNull(load)) as load,
        argMaxIf(worker, pairing_order, is_lifecycle and isNotNull(worker)) as worker,
        argMaxIf(error, pairing_order, isNotNull(error)) as error,
        toUInt32(countIf(status = 'retried')) as retries,
        toUInt32(countIf(status = 'compensated')) as compensations,
        minIf(toNullable(event_time), status = 'compensated') as compensated_at,
        toUInt32(count()) as events,
        max(event_time) as last_event_at
    from owned
    group by saga_type, saga_id, step, owner
)

select
    saga_type,
    saga_id,
    toUInt32(row_number() over (partition by saga_type, saga_id order by opening asc)) as step_number,
    step,
    participant,
    attempt,
    toUInt32(row_number() over (partition by saga_type, saga_id, step order by opening asc)) as execution,
    tupleElement(opening, 1) as opened_at,
    scheduled_at,
    started_at,
    ended_at,
    status,
    dateDiff('microsecond', scheduled_at, started_at) / 1000 as queue_ms,
    dateDiff('microsecond', started_at, ended_at) / 1000 as run_ms,
    reported_ms,
    load,
    worker,
    error,
    retries,
    compensations,
    toUInt8(compensations > 0) as is_compensated,
    compensated_at,
    events,
    last_event_at
from executions
