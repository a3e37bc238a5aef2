{{ config(engine='MergeTree()', order_by='saga_id', pre_hook='{{ hold_fence() }}') }}

select distinct subject as saga_id
from {{ source('raw', 'touched') }}
where
    topic = '{{ var("saga_topic") }}'
    and landing_id in (
        select landing_id from intermediate.build_landings
        where invocation_id = '{{ invocation_id }}'
    )
