{{ config(order_by=['saga_type', 'hour']) }}

with active as (
    select *
    from {{ ref('int_saga_hours') }}
    where sagas_started + sagas_completed + aborted_business + aborted_technical > 0
),

spans as (
    select
        saga_type,
        min(hour) as first_hour,
        max(hour) as last_hour
    from active
    group by saga_type
),

spine as (
    select
        saga_type,
        first_hour + toIntervalHour(arrayJoin(range(toUInt64(dateDiff('hour', first_hour, last_hour)) + 1))) as hour
    from spans
),

filled as (
    select
        spine.saga_type as saga_type,
        spine.hour as hour,
        toUInt64(coalesce(active.sagas_started, 0)) as sagas_started,
        toUInt64(coalesce(active.sagas_completed, 0)) as sagas_completed,
        toUInt64(coalesce(active.aborted_business, 0)) as aborted_business,
        toUInt64(coalesce(active.aborted_technical, 0)) as aborted_technical,
        aborted_business + aborted_technical as sagas_aborted,
        sagas_completed + sagas_aborted as sagas_ended,
        coalesce(active.amount_started_micros, 0) as amount_started_micros,
        coalesce(active.amount_completed_micros, 0) as amount_completed_micros,
        coalesce(active.amount_aborted_micros, 0) as amount_aborted_micros,
        active.duration_mean_ms as duration_mean_ms,
        active.duration_p50_ms as duration_p50_ms,
        active.duration_p90_ms as duration_p90_ms,
        active.duration_p95_ms as duration_p95_ms,
        active.duration_p99_ms as duration_p99_ms
    from spine
    left join active on spine.saga_type = active.saga_type and spine.hour = active.hour
)

select
    saga_type,
    hour,
    sagas_started,
    sagas_ended,
    sagas_completed,
    sagas_aborted,
    aborted_business,
    aborted_technical,
    sagas_completed / nullIf(sagas_ended, 0) as success_rate,
    sagas_aborted / nullIf(sagas_ended, 0) as failure_rate,
    aborted_business / nullIf(sagas_ended, 0) as business_failure_rate,
    aborted_technical / nullIf(sagas_ended, 0) as technical_failure_rate,
    duration_mean_ms,
    duration_p50_ms,
    duration_p90_ms,
    duration_p95_ms,
    duration_p99_ms,
    toFloat64(amount_started_micros) / 1000000 as amount_started,
    toFloat64(amount_completed_micros) / 1000000 as amount_completed,
    toFloat64(amount_aborted_micros) / 1000000 as amount_aborted,
    sum(toInt64(sagas_started) - toInt64(sagas_ended)) over so_far as sagas_in_flight,
    toFloat64(
        sum(amount_started_micros - amount_completed_micros - amount_aborted_micros) over so_far
    ) / 1000000 as money_in_flight
from filled
window so_far as (
    partition by saga_type
    order by hour asc
    rows between unbounded preceding and current row
)
