-- depends_on: {{ ref('int_touched_sagas') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='delete_insert',
        unique_key=['saga_type', 'hour'],
        order_by=['saga_type', 'hour'],
        pre_hook='{{ hold_fence() }}',
    )
}}

with sagas as (
    select
        saga_type,
        status,
        abort_reason,
        toStartOfHour(started_at) as started_hour,
        toStartOfHour(ended_at) as ended_hour,
        -- Whole millionths and microseconds: sums of these are exact in any order.
        toInt128(round(coalesce(amount, 0) * 1000000)) as amount_micros,
        dateDiff('microsecond', started_at, ended_at) as duration_us
    from {{ ref('fct_sagas') }}
),

{% if is_incremental() %}
    touched as (
        select
            saga_type,
            hour
        from intermediate.stale_hours
        union distinct
        select
            saga_type,
            {{ hours_of_saga() }} as hour
        from {{ ref('fct_sagas') }}
        where saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
    ),
{% endif %}

began as (
    select
        saga_type,
        started_hour as hour,
        count() as sagas_started,
        sum(amount_micros) as amount_started_micros
    from sagas
    {% if is_incremental() %}
        where (saga_type, started_hour) in (select (touched.saga_type, touched.hour) from touched)
    {% endif %}
    group by saga_type, started_hour
),

ended as (
    select *
    from sagas
    where isNotNull(ended_hour)
),

finished as (
    select
        saga_type,
        assumeNotNull(ended_hour) as hour,
        countIf(status = 'completed') as sagas_completed,
        countIf(abort_reason = 'business') as aborted_business,
        countIf(abort_reason = 'technical') as aborted_technical,
        sumIf(amount_micros, status = 'completed') as amount_completed_micros,
        sumIf(amount_micros, status = 'aborted') as amount_aborted_micros,
        sum(assumeNotNull(duration_us)) / count() / 1000 as duration_mean_ms,
        arrayMap(
            x -> x / 1000, quantilesExact(0.5, 0.9, 0.95, 0.99) (assumeNotNull(duration_us))
        ) as duration_quantiles_ms
    from ended
    {% if is_incremental() %}
        where (saga_type, assumeNotNull(ended_hour)) in (select (touched.saga_type, touched.hour) from touched)
    {% endif %}
    group by saga_type, hour
),

hours as (
    {% if is_incremental() %}
        -- All of them: an hour that its sagas left is written again as zeros.
        select
            saga_type,
            hour
        from touched
    {% else %}
        select
            saga_type,
            hour
        from began
        union distinct
        select
            saga_type,
            hour
        from finished
    {% endif %}
)

select
    hours.saga_type as saga_type,
    hours.hour as hour,
    coalesce(began.sagas_started, 0) as sagas_started,
    coalesce(finished.sagas_completed, 0) as sagas_completed,
    coalesce(finished.aborted_business, 0) as aborted_business,
    coalesce(finished.aborted_technical, 0) as aborted_technical,
    coalesce(began.amount_started_micros, 0) as amount_started_micros,
    coalesce(finished.amount_completed_micros, 0) as amount_completed_micros,
    coalesce(finished.amount_aborted_micros, 0) as amount_aborted_micros,
    finished.duration_mean_ms as duration_mean_ms,
    -- An array cannot be null: where no saga ended it is empty, and an element of it would read as 0.
    if(isNull(finished.duration_mean_ms), null, finished.duration_quantiles_ms[1]) as duration_p50_ms,
    if(isNull(finished.duration_mean_ms), null, finished.duration_quantiles_ms[2]) as duration_p90_ms,
    if(isNull(finished.duration_mean_ms), null, finished.duration_quantiles_ms[3]) as duration_p95_ms,
    if(isNull(finished.duration_mean_ms), null, finished.duration_quantiles_ms[4]) as duration_p99_ms
from hours
left join began on hours.saga_type = began.saga_type and hours.hour = began.hour
left join finished on hours.saga_type = finished.saga_type and hours.hour = finished.hour
