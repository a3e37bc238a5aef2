-- depends_on: {{ ref('int_touched_sagas') }}
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
        status_rank < 3 as is_lifecycle
    from {{ ref('stg_saga_events') }}
    where
        event_type = 'isthmus.saga.step'
        {% if is_incremental() %}
            and saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
        {% endif %}
),

-- Both orders as numbers, so that the text in them is compared once.
ordered as (
    select
        *,
        row_number() over (
            partition by saga_type, saga_id
            order by event_time asc, length(event_id) asc, event_id asc, source asc
        ) as place,
        row_number() over (
            partition by saga_type, saga_id, step
            order by event_time asc, attempt asc, status_rank asc, length(event_id) asc, event_id asc, source asc
        ) as pairing_place
    from events
),

opened as (
    select
        *,
        anyLast(if(is_lifecycle, status_rank, null)) over (
            partition by saga_type, saga_id, step, attempt
            order by pairing_place asc
            rows between unbounded preceding and 1 preceding
        ) as previous_rank,
        multiIf(
            not is_lifecycle, 0,
            status_rank = 0, 1,
            status_rank = 1, coalesce(previous_rank, 9) != 0,
            coalesce(previous_rank, 9) not in (0, 1)
        ) as opens
    from ordered
),

numbered as (
    select
        *,
        sum(opens) over (
            partition by saga_type, saga_id, step, attempt
            order by pairing_place asc
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
        order by pairing_place asc
        rows between unbounded preceding and current row
    )
),

-- Who an event belongs to: an execution of its attempt, of another attempt, or (its place) itself alone.
owned as (
    select
        *,
        multiIf(
            pair_number > 0, (attempt, pair_number, 0),
            isNotNull(last_attempt), (assumeNotNull(last_attempt), assumeNotNull(last_pair_number), 0),
            (attempt, 0, pairing_place)
        ) as owner
    from carried
),

executions as (
    select
        saga_type,
        saga_id,
        step,
        owner,
        argMin(owned.participant, owned.pairing_place) as first_participant,
        argMin(owned.attempt, owned.pairing_place) as first_attempt,
        argMin(owned.place, owned.pairing_place) as first_place,
        argMin(owned.event_time, owned.pairing_place) as opened_at,
        minIf(toNullable(owned.event_time), owned.status = 'scheduled') as scheduled_at,
        minIf(toNullable(owned.event_time), owned.status = 'started') as started_at,
        minIf(toNullable(owned.event_time), owned.status_rank = 2) as ended_at,
        -- The last lifecycle event, or the last of all where there is none.
        argMax(owned.status, (owned.is_lifecycle, owned.pairing_place)) as last_status,
        argMaxIf(owned.duration_ms, owned.pairing_place, owned.is_lifecycle and isNotNull(owned.duration_ms))
            as reported_ms,
        argMinIf(owned.load, owned.pairing_place, owned.is_lifecycle and isNotNull(owned.load)) as first_load,
        argMaxIf(owned.worker, owned.pairing_place, owned.is_lifecycle and isNotNull(owned.worker)) as last_worker,
        argMaxIf(owned.error, owned.pairing_place, isNotNull(owned.error)) as last_error,
        toUInt32(countIf(owned.status = 'retried')) as retries,
        toUInt32(countIf(owned.status = 'compensated')) as compensations,
        minIf(toNullable(owned.event_time), owned.status = 'compensated') as compensated_at,
        toUInt32(count()) as events,
        max(owned.event_time) as last_event_at
    from owned
    group by saga_type, saga_id, step, owner
)

select
    saga_type,
    saga_id,
    toUInt32(row_number() over (partition by saga_type, saga_id order by first_place asc)) as step_number,
    step,
    toLowCardinality(first_participant) as participant,
    first_attempt as attempt,
    toUInt32(row_number() over (partition by saga_type, saga_id, step order by first_place asc)) as execution,
    opened_at,
    scheduled_at,
    started_at,
    ended_at,
    toLowCardinality(last_status) as status,
    dateDiff('microsecond', scheduled_at, started_at) / 1000 as queue_ms,
    dateDiff('microsecond', started_at, ended_at) / 1000 as run_ms,
    reported_ms,
    first_load as load,
    last_worker as worker,
    last_error as error,
    retries,
    compensations,
    toUInt8(compensations > 0) as is_compensated,
    compensated_at,
    events,
    last_event_at
from executions
