{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        engine='ReplacingMergeTree(version)',
        order_by=['saga_id', 'source', 'event_id'],
        partition_by='toYYYYMM(event_time)',
        pre_hook='{{ hold_fence() }}',
    )
}}

with records as (
    select
        *,
        {{ saga_data() }} as data,
        JSONExtractRaw(value, 'data', 'attributes') as attributes_text
    from {{ ref('stg_raw_events') }}
    where
        topic = '{{ var("saga_topic") }}'
        {% if is_incremental() %}
            and {{ is_pending(var('saga_topic')) }}
        {% endif %}
        and is_well_formed
)

select
    toLowCardinality(tupleElement(data, 'saga_type')) as saga_type,
    subject as saga_id,
    source,
    event_id,
    event_type,
    assumeNotNull(event_time) as event_time,
    toLowCardinality(if(event_type = 'isthmus.saga.step', tupleElement(data, 'step'), '')) as step,
    toLowCardinality(if(event_type = 'isthmus.saga.step', tupleElement(data, 'participant'), '')) as participant,
    if(event_type = 'isthmus.saga.step', tupleElement(data, 'attempt'), 0) as attempt,
    toLowCardinality(if(event_type = 'isthmus.saga.step', tupleElement(data, 'status'), '')) as status,
    tupleElement(data, 'worker') as worker,
    tupleElement(data, 'error') as error,
    tupleElement(data, 'duration_ms') as duration_ms,
    tupleElement(data, 'load') as load,
    if(event_type = 'isthmus.saga.started', tupleElement(data, 'amount'), null) as amount,
    toLowCardinality(if(event_type = 'isthmus.saga.started', tupleElement(data, 'currency'), '')) as currency,
    if(event_type = 'isthmus.saga.aborted', tupleElement(data, 'reason'), null) as reason,
    multiIf(
        event_type = 'isthmus.saga.completed', tupleElement(data, 'outcome'),
        event_type = 'isthmus.saga.aborted', tupleElement(data, 'detail'),
        null
    ) as outcome,
    if(attributes_text in ('', 'null'), '{}', attributes_text) as attributes,
    topic,
    "partition",
    "offset",
    appended_at,
    bitNot(bitOr(bitShiftLeft(toUInt64("partition"), 48), toUInt64("offset"))) as version
from records
where {{ saga_fault() }} = ''
