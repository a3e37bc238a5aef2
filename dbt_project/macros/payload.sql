{# All fields of a saga event's data in one parse: each JSON function call would parse the payload again. #}
{% macro saga_data() -%}
    JSONExtract(value, 'data', 'Tuple(
        saga_type String, step String, participant String, attempt UInt32, status String,
        worker Nullable(String), error Nullable(String), duration_ms Nullable(Float64), load Nullable(Float64),
        amount Nullable(Float64), currency String, reason Nullable(String),
        outcome Nullable(String), detail Nullable(String))')
{%- endmacro %}

{# What `data` lacks for an event of its type to count; empty where it lacks nothing. #}
{% macro saga_fault() -%}
    multiIf(
        event_type not in (
            'isthmus.saga.started', 'isthmus.saga.step', 'isthmus.saga.completed', 'isthmus.saga.aborted'
        ), 'not a type of this topic',
        tupleElement(data, 'saga_type') = '', 'saga_type is missing',
        event_type = 'isthmus.saga.step' and tupleElement(data, 'step') = '', 'step is missing',
        event_type = 'isthmus.saga.step' and tupleElement(data, 'participant') = '', 'participant is missing',
        event_type = 'isthmus.saga.step' and tupleElement(data, 'attempt') < 1, 'attempt is not a number from 1',
        event_type = 'isthmus.saga.step' and tupleElement(data, 'status') not in (
            'scheduled', 'started', 'completed', 'failed', 'timed_out', 'retried', 'compensated'
        ), 'status is none that is known',
        event_type = 'isthmus.saga.aborted' and coalesce(tupleElement(data, 'reason'), '') not in (
            'business', 'technical'
        ), 'reason is neither business nor technical',
        ''
    )
{%- endmacro %}

{# The columns that say where an event came from, and that it counts once: the last lines of a staging view. #}
{% macro one_event_each(topic, event_types) -%}
    from {{ ref('stg_raw_events') }}
    where
        topic = '{{ topic }}'
        and is_well_formed
        and event_type in ('{{ event_types | join("', '") }}')
    order by source asc, event_id asc, "partition" asc, "offset" asc
    limit 1 by source, event_id
{%- endmacro %}
